-- What single tasks may cost over their whole life: all attempts, retries and steps of it.
create table task_cap (
  task text not null,
  dimension text not null,        -- money, calls, tokens
  amount bigint not null,         -- spent and held together may reach it
  primary key (task, dimension)
) without rowid;

-- What open calls hold of such a task is read from an index of those calls alone: of no other task is there an entry.
alter table call add column own_task text;  -- its task, where that has caps of its own
create index call_capped on call (own_task, money, calls, tokens) where state = 'open' and own_task is not null;
