-- every: all that was learned
select service, model, dimension, source, amount, per_ms, burst, ceiling, since_ms, lowered_ms, seen_ms, told, evidence, version
  from learned order by service, model, dimension;

-- by_key: one of them, absent while nothing is known
select service, model, dimension, source, amount, per_ms, burst, ceiling, since_ms, lowered_ms, seen_ms, told, evidence, version
  from learned where service = :service and model = :model and dimension = :dimension;

-- keep: as an answer leaves it
insert into learned (service, model, dimension, source, amount, per_ms, burst, ceiling, since_ms, lowered_ms, seen_ms, told,
                     evidence, version)
values (:service, :model, :dimension, :source, :amount, :per_ms, :burst, :ceiling, :since_ms, :lowered_ms, :seen_ms, :told,
        :evidence, :version)
on conflict (service, model, dimension) do update
   set source = excluded.source, amount = excluded.amount, per_ms = excluded.per_ms, burst = excluded.burst,
       ceiling = excluded.ceiling, since_ms = excluded.since_ms, lowered_ms = excluded.lowered_ms,
       seen_ms = excluded.seen_ms, told = excluded.told, evidence = excluded.evidence, version = excluded.version;

-- lately: of the last calls there were, how many of the service (and the model) have left since an instant
select count(*) as calls
  from (select service, model, state, slot_us from call order by seq desc limit :look) as latest
 where service = :service and (:model = '' or model = :model) and state <> 'released'
   and slot_us > :from_us and slot_us <= :now_ms * 1000;
