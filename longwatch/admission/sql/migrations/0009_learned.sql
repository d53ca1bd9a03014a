-- What answers have taught about the limits of a service. Absent: nothing yet.
create table learned (
  service text not null,
  model text not null,             -- '': of calls that name none
  dimension text not null,         -- requests, input_tokens, output_tokens, quota
  source text not null,            -- published by the provider, found by what it refused
  amount bigint not null,
  per_ms bigint not null,
  burst bigint not null,
  ceiling bigint not null,         -- where the limit was found to be, per minute; 0: not known
  since_ms bigint not null,        -- this rate since
  lowered_ms bigint not null,      -- last refusal that was news
  seen_ms bigint not null,         -- last time that it was said
  told bigint not null,            -- the amount that the journal has told of
  evidence text not null,
  version bigint not null,         -- how often it was written
  primary key (service, model, dimension)
) without rowid;
