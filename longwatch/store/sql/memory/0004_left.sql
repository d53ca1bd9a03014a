-- What is left behind of records that have gone into the archive.

-- Places, by the source that names their segment.
create table memory_left (
  agent text not null,
  first_place bigint not null,
  last_place bigint not null,
  source text not null,
  primary key (agent, first_place)
) without rowid;

-- Of those that are not live: a snapshot may still name them, and nothing closed comes back.
create table memory_left_gone (
  agent text not null,
  place bigint not null,
  primary key (agent, place)
) without rowid;

-- Keys go on being taken: eight bytes of each, with the agent. left_day: on which it left, since 1 January 1970.
create table memory_left_key (
  short bigint primary key,
  place bigint not null,
  left_day bigint not null
) without rowid;

-- Whether the records it covers had its digest when it was looked at, so that they may leave.
alter table memory_snapshot add column checked bigint not null default 0;
