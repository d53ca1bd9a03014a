-- A snapshot covers the places from first to last; those of one level that have a parent are in it.
create table memory_snapshot (
  id text primary key,
  agent text not null,
  level bigint not null,
  first_place bigint not null,
  last_place bigint not null,
  records bigint not null,
  tasks bigint not null,
  sha256 text not null,
  starts_ms bigint not null,
  ends_ms bigint not null,
  made_ms bigint not null,
  author text not null,             -- offline, claude
  body text not null,               -- JSON, of the shape in policy/snapshot.py
  parent text
);
create unique index memory_snapshot_first on memory_snapshot (agent, level, first_place);
create index memory_snapshot_top on memory_snapshot (agent, level, first_place) where parent is null;

create table memory_compactor (
  one integer primary key,
  holder text not null,
  fence bigint not null,
  until_ms bigint not null
);
