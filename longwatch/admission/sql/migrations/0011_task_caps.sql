-- What single tasks may cost over their whole life: all attempts, retries and steps of it.
create table task_cap (
  task text not null,
  dimension text not null,        -- money, calls, tokens
  amount bigint not null,         -- spent and held together may reach it
  primary key (task, dimension)
) without rowid;

-- What open calls hold of one task is read from the same index as what they hold of anybody.
drop index call_open;
create index call_open on call (service, budget, agent, calendar_ms, money, calls, tokens, owner, until_ms, task)
  where state = 'open';
