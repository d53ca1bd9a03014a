-- What is left behind of what has gone into the archive.

-- A key goes on being taken: work that was done is not done again because its task is not looked at any more. Eight bytes of
-- each, and the day on which it ended.
create table retired_key (
  short bigint primary key,
  ended_day bigint not null
) without rowid;

-- What archived calls have cost, by the day of the budgets' calendar that they were made in, or the hour or minute while it is
-- young: a window that is opened now counts what was spent in it before.
create table retired_cost (
  starts_ms bigint not null,      -- of the day or the hour, by the fleet's zone
  ends_ms bigint not null,
  service text not null,
  model text not null,            -- '': none
  budget text not null,           -- '': none
  agent text not null,
  kind text not null,             -- of the task; '': of no task
  away bigint not null,
  places bigint not null,         -- how many calls
  money bigint not null,
  calls bigint not null,
  tokens bigint not null,
  primary key (starts_ms, ends_ms, service, model, budget, agent, kind, away)
) without rowid;

-- Who archives, and how far it has got.
create table archivist (
  one integer primary key check (one = 1),
  holder text not null,
  fence bigint not null,
  until_ms bigint not null,
  closed_ms bigint not null,      -- when the last round ended
  number bigint not null          -- of the last source
);
insert into archivist (one, holder, fence, until_ms, closed_ms, number) values (1, '', 0, 0, 0, 0);

-- A segment that is being made, or whose rows are being dropped here.
create table retiring (
  source text primary key,        -- names it in the archive, whoever writes it
  sort text not null,             -- tasks, calls, spends, journal
  segment text,                   -- null: not known to be whole
  begun_ms bigint not null
) without rowid;

-- Tasks that were brought back, from which segments, and until when they stay.
create table restored (
  task text not null,
  segment text not null,
  until_ms bigint not null,
  primary key (task, segment)
) without rowid;

-- What a task brought in stays when the task has gone, and so what kind of task it was. Null: the task is asked, or it is told
-- before the task goes.
alter table earning add column kind text;
