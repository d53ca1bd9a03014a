-- What the state decides while processes cannot reach the engine beside it, told apart from what that engine decides.
alter table call add column away bigint not null default 0;  -- 1: the state decided about it, by the share kept for that
alter table spend add column away bigint not null default 0;  -- of what is settled: the engine has not been told of it
create index call_away on call (service, budget, agent, calendar_ms, money, calls, tokens, owner, until_ms)
  where state = 'open' and away = 1;

-- Processes that cannot reach the engine, and go by the share.
create table cut (
  process text primary key,
  owner text not null,            -- of the first call that was decided so
  agent text not null,
  since_ms bigint not null,
  seen_ms bigint not null,        -- it has tried the engine again in vain
  reason text not null
) without rowid;
