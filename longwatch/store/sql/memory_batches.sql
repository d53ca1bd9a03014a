-- ask: a batch is about to be made for the snapshot, or another one in the place of one that is over
insert into memory_batch (snapshot, custom_id, batch, call, owner, model, number, micros, changes, asked_ms, poll_ms)
values (:snapshot, :custom_id, null, :call, :owner, :model, :number, :micros, :changes, :wall_ms, :wall_ms)
on conflict (snapshot) do update
   set custom_id = excluded.custom_id, batch = null, call = excluded.call, owner = excluded.owner, model = excluded.model,
       number = excluded.number, micros = excluded.micros, changes = excluded.changes, asked_ms = excluded.asked_ms,
       poll_ms = excluded.poll_ms;

-- made: its name; it is not looked at before it can have come to anything
update memory_batch set batch = :batch, poll_ms = :wall_ms + :soon_ms
 where snapshot = :snapshot and custom_id = :custom_id;

-- later: it is looked at no sooner
update memory_batch set poll_ms = :poll_ms where snapshot = :snapshot and custom_id = :custom_id;

-- over: what came of it is known, or never will be
delete from memory_batch where snapshot = :snapshot and custom_id = :custom_id;

-- due: those to look at, and by what clock
select snapshot, custom_id, batch, call, owner, model, number, micros, changes, asked_ms, :wall_ms - asked_ms as age_ms
  from memory_batch where poll_ms <= :wall_ms order by poll_ms, snapshot limit :limit;

-- open: how many there are
select count(*) as batches from memory_batch;

-- names: of all that have one
select batch from memory_batch where batch is not null;
