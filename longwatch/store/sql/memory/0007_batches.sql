-- Requests for snapshots that were handed to a provider as batches, from before they are made until their answer is taken.
create table memory_batch (
  snapshot text primary key,
  custom_id text not null,     -- of the request in the batch: never used again
  batch text,                  -- the provider's name of it; null: whether there is one is not known
  call text not null,          -- that pays for it, and its owner
  owner text not null,
  model text not null,
  number bigint not null,      -- 2: the answer to the first one had not the shape
  micros bigint not null,      -- what that one cost
  changes bigint not null,     -- of the snapshot, when its records were read
  asked_ms bigint not null,    -- by the calendar
  poll_ms bigint not null      -- it is not looked at before
);
create index memory_batch_poll on memory_batch (poll_ms);
