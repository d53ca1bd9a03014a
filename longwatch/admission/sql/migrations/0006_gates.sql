-- Whether a service, or one model of it, may be called after it has pushed back. Absent: it never did.
create table gate (
  name text primary key,
  state text not null,             -- closed, cooling, open, parked, paused
  since_ms bigint not null,
  until_ms bigint,                 -- of cooling, or of the next probe; null: there is none
  begun_ms bigint not null,        -- when it opened first
  failures bigint not null,        -- in a row
  strikes bigint not null,         -- failures that might have been the request's own fault
  struck_ms bigint not null,
  reason text not null,
  probe text,                      -- the call that is let through
  probe_until_ms bigint not null,
  version bigint not null          -- how often it has moved
) without rowid;
