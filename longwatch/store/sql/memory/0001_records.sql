-- What agents remember. Places count an agent's records from one without a gap, so that a loss is seen.
create table memory_agent (
  agent text primary key,
  places bigint not null,           -- the last place given
  tasks bigint not null,            -- how many ended tasks are among its records
  compacted bigint not null,        -- the last place that a snapshot covers
  compacted_tasks bigint not null
);

create table memory_record (
  seq integer primary key,
  id text not null unique,
  agent text not null,
  place bigint not null,
  kind text not null,
  state text not null,              -- live, closed, superseded, redacted
  at_ms bigint not null,            -- when it happened, by the calendar
  task text,
  thread text,                      -- the task or conversation whose records stand beside it
  author text,                      -- who said it, where that is not the agent
  source text not null,             -- run, program, task, call, import
  trust text not null,              -- own, tool, untrusted
  key text,
  body text not null,
  data text,                        -- JSON
  successor text,                   -- the record that took its place
  pinned bigint not null
);
create unique index memory_record_place on memory_record (agent, place);
create unique index memory_record_key on memory_record (agent, key) where key is not null;
create index memory_record_kind on memory_record (agent, kind, state, place);

create table memory_count (
  agent text not null,
  kind text not null,
  state text not null,
  records bigint not null,
  primary key (agent, kind, state)
);

create table memory_charter (
  agent text not null,
  version bigint not null,
  body text not null,
  sha256 text not null,
  at_ms bigint not null,
  who text not null,
  primary key (agent, version)
);

create table memory_receipt (
  seq integer primary key,
  at_ms bigint not null,
  who text not null,
  action text not null,
  agent text not null,
  subject text not null,            -- a record, a snapshot, or the agent
  note text not null
);
create index memory_receipt_subject on memory_receipt (subject);

create table memory_feed (
  one integer primary key,
  epoch bigint not null,
  seq bigint not null               -- of the journal, up to which records were made of it
);

create table memory_import (
  agent text not null,
  file text not null,
  done bigint not null,             -- bytes
  lines bigint not null,
  at_ms bigint not null,
  primary key (agent, file)
);
