-- Calls, the meters they advance, and the purses that pay for them.
create table meter (
  name text primary key,          -- service/dimension, or service/model pattern/dimension
  free_us bigint not null,        -- steady microseconds at which the whole burst is free again
  last_us bigint not null,        -- latest slot given
  total bigint not null           -- units ever reserved, corrections upwards included
) without rowid;

-- The budgets' calendar: whole minutes, forwards only.
create table calendar (
  one integer primary key check (one = 1),
  at_ms bigint not null
);
insert into calendar (one, at_ms) values (1, 0);

-- What ended calls have cost a purse in one window. Open calls are not in it: their sum is what is held.
create table spend (
  purse text not null,            -- fleet, budget:NAME, agent:NAME, service:NAME (its quota)
  ends_ms bigint not null,        -- end of the window; the last instant of all for "total"
  dimension text not null,        -- money, calls, tokens
  per text not null,              -- minute, hour, day, week, month, total
  starts_ms bigint not null,
  settled bigint not null,
  warned bigint not null default 0,  -- highest threshold told of, in millionths of the cap
  primary key (purse, ends_ms, dimension, per)
) without rowid;

create table call (
  seq integer primary key,
  id text not null unique,
  key text not null,              -- the same on every attempt at the same call
  state text not null,            -- open (waiting until its slot, leaving from then on), settled, unknown, released
  service text not null,
  model text,
  agent text not null,
  budget text,
  owner text not null,
  task text,
  run text,
  step text,
  lane text not null,
  slot_us bigint not null,        -- may leave from this steady instant on
  admitted_ms bigint not null,
  calendar_ms bigint not null,    -- its windows are those that hold this instant
  until_ms bigint not null,       -- an open call is unknown from here on, unless its owner beats
  ended_ms bigint,
  weights text not null,          -- by meter: [units reserved or used, the meter's total behind them]
  money bigint not null,          -- what it is charged: the hold while open, then the actual
  calls bigint not null,
  tokens bigint not null,
  held_money bigint not null,     -- the hold as it was made: what it is charged when its outcome is never known
  held_calls bigint not null,
  held_tokens bigint not null,
  sharing integer not null,       -- 0: nobody remembers its key, 1: its service does, 2: and other calls have that key too
  told_money bigint,              -- what it would be charged if another call with its key did not bear it; null: that
  told_tokens bigint              --   is what it is charged
);
create index call_key on call (key, seq) where key <> id;
create index call_task on call (task) where task is not null;
-- Everything that is asked about open calls is answered from this one index; each further one would cost a page a commit.
create index call_open on call (service, budget, agent, calendar_ms, money, calls, tokens, owner, until_ms)
  where state = 'open';
