-- What tasks brought in. A later attempt that says the same again replaces what the earlier one said.
create table earning (
  key text primary key,           -- task, step, and the place in it
  at_ms bigint not null,          -- when it was first said, by the calendar
  task text not null,
  agent text not null,
  budget text,
  micros bigint not null,
  currency text not null,
  note text not null
) without rowid;
