-- One fleet: its name, its epoch of fences, its clock.
create table fleet (
  one integer primary key check (one = 1),
  name text not null,
  created_ms bigint not null,
  epoch bigint not null,          -- raised by a restore: every fence given before is overtaken
  fence bigint not null,          -- number of the last fence given in this epoch
  boot_id text not null,
  offset_ms bigint not null,      -- what the boot clock needs added to read as epoch milliseconds
  redaction_key text not null,
  upkeep_ms bigint not null default 0,  -- when it was last begun
  config text not null,           -- limits and budgets in force, as JSON
  rules bigint not null default 0 -- how often they were changed: who decides by older ones is refused
);

create table task (
  seq integer primary key,
  id text not null unique,
  kind text not null,
  args text not null,
  state text not null,
  key text unique,
  batch text,
  agent text not null,
  budget text,
  lane integer not null,          -- rank: urgent 0, normal 1, batch 2
  ready_ms bigint not null,       -- not before
  submitted_ms bigint not null,
  ended_ms bigint,
  retries integer not null,       -- allowed beyond the first run
  failures integer not null default 0,
  crashes integer not null default 0,
  crash_limit integer not null,
  timeout_ms bigint,
  result text,
  error text,
  cause text,                     -- id of the task whose end ended this one
  owner text,                     -- random boot id of the worker process
  fence bigint not null default 0,
  until_ms bigint,                -- end of the run's lease
  epoch bigint not null           -- of the fleet when it was submitted: older than a restore, or not
);
create index task_ready on task (kind, lane, seq) where state = 'ready';
create index task_scheduled on task (ready_ms) where state = 'scheduled';
create index task_leased on task (until_ms, owner, state) where state in ('claimed', 'running');  -- few: may be read whole
create index task_batch on task (batch) where batch is not null;
create index task_rest on task (state) where state in ('waiting', 'failed', 'cancelled', 'unknown');

create table need (
  task text not null,
  needs text not null,
  fate text not null,             -- of the task when the needed one does not succeed: cancel, fail, ignore
  met integer not null default 0,
  primary key (task, needs)
) without rowid;
create index need_of on need (needs);
create index need_open on need (task) where met = 0;

-- A task's runs are found by their records, a run's records by its task: every index costs a page of each commit.
create table run (
  fence integer primary key,
  id text not null unique,
  task text not null,
  owner text not null,
  agent text not null,
  started_ms bigint not null,
  ended_ms bigint,
  outcome text,
  error text
);

create table step (
  task text not null,
  name text not null,
  sort text not null,             -- step, once, edit
  state text not null,            -- started, stored
  result text,
  started_ms bigint not null,
  stored_ms bigint,
  fence bigint not null,
  primary key (task, name)
) without rowid;
create index step_open on step (task) where sort = 'once' and state = 'started';

create table kind (
  name text primary key,
  module text not null,           -- where its handler is found
  manner text not null            -- how it is run and what arguments it takes, as JSON
) without rowid;

create table batch (
  id text primary key,
  name text not null unique,
  digest text not null,
  submitted_ms bigint not null
) without rowid;

create table worker (
  owner text primary key,
  agent text not null,
  pid bigint not null,
  start_ticks bigint not null,
  boot_id text not null,
  name text,
  since_ms bigint not null,
  beat_ms bigint not null
) without rowid;

create table record (
  seq integer primary key,
  at_ms bigint not null,
  kind text not null,
  subject text not null,
  agent text,
  task text,
  data text not null
);
create index record_subject on record (subject) where task is null or (subject <> task and kind <> 'run.started');
create index record_task on record (task) where task is not null;
