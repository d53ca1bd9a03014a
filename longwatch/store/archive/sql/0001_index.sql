-- What the segments hold, so that few of their bytes have to be read. All of it can be made anew from them.

-- The last move of the manifest that was taken in.
create table head (
  one integer primary key check (one = 1),
  n integer not null,
  chain text not null
) without rowid;

-- unread: entries that could not be read when it was taken in.
create table segment (
  number integer primary key,
  name text not null unique,
  unread integer not null
);

-- kinds: one bit for each, see index.py. entries: how many lines.
create table frame (
  id integer primary key,
  segment integer not null,
  start integer not null,
  size integer not null,
  entries integer not null,
  from_ms integer not null,
  to_ms integer not null,
  kinds integer not null
);
create index frame_segment on frame (segment);

create table frame_agent (
  agent text not null,
  frame integer not null,
  primary key (agent, frame)
) without rowid;

-- task: a hash, which may be that of others too: the frame says.
create table frame_task (
  task integer not null,
  frame integer not null,
  primary key (task, frame)
) without rowid;

-- hashes: four bytes for each id of the frame.
create table frame_ids (
  frame integer primary key,
  hashes blob not null
);

-- day: days since 1 January 1970, in UTC. By segment, so that one can be taken out.
create table day_sum (
  day integer not null,
  agent text not null,
  currency text not null,
  segment integer not null,
  cost_micros integer not null,
  calls integer not null,
  errors integer not null,
  primary key (day, agent, currency, segment)
) without rowid;

-- The same over all segments, a day in one piece. costs: an array of objects.
create table day_cost (
  day integer primary key,
  costs text not null
);
