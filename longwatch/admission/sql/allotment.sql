-- generation: of the engine's memory; none before an engine was first used
select generation from engine where one = 1;

-- begin: the engine's memory is a new one
insert into engine (one, generation) values (1, :generation)
on conflict (one) do update set generation = excluded.generation;

-- raise: the engine may let spent and held together reach the amount; never less than before
insert into allotment (purse, ends_ms, dimension, per, starts_ms, amount)
values (:purse, :ends_ms, :dimension, :per, :starts_ms, :amount)
on conflict (purse, ends_ms, dimension, per) do update
   set amount = case when allotment.amount > excluded.amount then allotment.amount else excluded.amount end
returning amount;

-- standing: what a window has spent
select settled from spend where purse = :purse and ends_ms = :ends_ms and dimension = :dimension and per = :per;

-- current: allotments of the windows that hold an instant, and what the engine has spent of them
select a.purse, a.ends_ms, a.dimension, a.per, a.starts_ms, a.amount, s.settled - s.away as settled
  from allotment a
  join spend s on s.purse = a.purse and s.ends_ms = a.ends_ms and s.dimension = a.dimension and s.per = a.per
 where a.ends_ms > :at_ms and a.starts_ms <= :at_ms;

-- park: what was allotted and is not written down counts as spent
update spend set settled = settled + :amount
 where purse = :purse and ends_ms = :ends_ms and dimension = :dimension and per = :per;

-- remember: how much of what is spent is parked
update allotment set parked = parked + :amount
 where purse = :purse and ends_ms = :ends_ms and dimension = :dimension and per = :per;

-- parked: windows of these purses that hold an instant, and have something parked
select purse, ends_ms, dimension, per, parked
  from allotment
 where purse in (select value from json_each(:purses)) and ends_ms > :at_ms and starts_ms <= :at_ms and parked > 0;

-- several: calls as they are kept here
select id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms, calendar_ms,
       until_ms, ended_ms, weights, money, calls, tokens, held_money, held_calls, held_tokens, sharing, version,
       aside, away
  from call where id in (select value from json_each(:ids));

-- by_id: one call with its version
select id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms, calendar_ms,
       until_ms, ended_ms, weights, money, calls, tokens, held_money, held_calls, held_tokens, sharing, version,
       aside
  from call where id = :id;

-- open: every open call that the engine decided about, with its version
select id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms, calendar_ms,
       until_ms, ended_ms, weights, money, calls, tokens, held_money, held_calls, held_tokens, sharing, version,
       aside
  from call where state = 'open' and away = 0 order by seq;

-- write: a call that the engine admitted, as it stands
insert into call (id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms,
                  calendar_ms, until_ms, ended_ms, weights, money, calls, tokens, held_money, held_calls, held_tokens,
                  sharing, version, aside, own_task)
values (:id, :key, :state, :service, :model, :agent, :budget, :owner, :task, :run, :step, :lane, :slot_us, :admitted_ms,
        :calendar_ms, :until_ms, :ended_ms, :weights, :money, :calls, :tokens, :held_money, :held_calls, :held_tokens,
        :sharing, :version, :aside, :own_task);

-- seen: how far the engine has changed a call
update call set slot_us = :slot_us, until_ms = :until_ms, ended_ms = :ended_ms, weights = :weights, version = :version
 where id = :id;

-- keep_meters: the meters as the engine has them, unless it was asked again since: [[name, free_us, last_us, total], ...]
insert into meter (name, free_us, last_us, total)
select value ->> 0, value ->> 1, value ->> 2, value ->> 3 from json_each(:meters) where true
on conflict (name) do update set free_us = excluded.free_us, last_us = excluded.last_us, total = excluded.total
 where excluded.total >= meter.total;
