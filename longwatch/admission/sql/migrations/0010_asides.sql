-- What batches have set aside of quotas and budgets, before their calls are made.
create table aside (
  id text primary key,            -- BATCH/SERVICE
  batch text not null,
  service text not null,
  budget text,
  agent text not null,
  begun_ms bigint not null,
  ended_ms bigint,                -- of its batch: what was not used is given back
  calendar_ms bigint not null,    -- it counts in the windows that hold this instant
  money bigint not null,          -- set aside
  calls bigint not null,
  tokens bigint not null,
  used_money bigint not null default 0,  -- what calls that drew on it are charged, their holds while they are open
  used_calls bigint not null default 0,
  used_tokens bigint not null default 0
) without rowid;
create index aside_open on aside (batch) where ended_ms is null;

alter table call add column aside text;  -- what it drew on when it was admitted
