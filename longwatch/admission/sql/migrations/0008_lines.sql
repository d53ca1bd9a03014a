-- Who stands in line for a slot of a service, where slots are further away than anybody is given one.
create table ticket (
  seq integer primary key,
  id text not null unique,        -- of the call
  line text not null,             -- the service, or service/pattern of models
  lane text not null,
  owner text not null,            -- the process: its places count while it looks
  agent text not null,
  task text,
  since_ms bigint not null
);
create index ticket_line on ticket (line, lane, seq);
create index ticket_owner on ticket (owner);

create table waiter (
  owner text not null,
  line text not null,
  seen_ms bigint not null,
  primary key (owner, line)
) without rowid;

create table lane (
  line text not null,
  lane text not null,
  given bigint not null,          -- grows with every slot, by less where the lane's share is larger
  primary key (line, lane)
) without rowid;
