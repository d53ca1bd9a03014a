-- What an engine outside of the state may give out, and how far it is known here what it did.
alter table call add column version bigint not null default 0;  -- how often the engine has changed it; 0: no engine did

create table allotment (
  purse text not null,
  ends_ms bigint not null,
  dimension text not null,
  per text not null,
  starts_ms bigint not null,
  amount bigint not null,         -- the engine may let spent and held together reach it
  parked bigint not null default 0,  -- of what is spent: was allotted when the engine lost its memory, and not written down
  primary key (purse, ends_ms, dimension, per)
) without rowid;

-- The engine's memory: another generation has forgotten what the one before knew.
create table engine (
  one integer primary key check (one = 1),
  generation text not null
);
