-- call.beat: the later of two instants is not called max
update call set until_ms = greatest(until_ms, :now_ms + :hold_ms) where owner = :owner and state = 'open';

-- meter.keep: what a list of values holds has to be said
insert into meter (name, free_us, last_us, total)
select * from (values (cast(:first as text), cast(:first_free_us as bigint), cast(:first_last_us as bigint),
                       cast(:first_total as bigint)),
                      (:second, :second_free_us, :second_last_us, :second_total),
                      (:third, :third_free_us, :third_last_us, :third_total),
                      (:fourth, :fourth_free_us, :fourth_last_us, :fourth_total)) as kept
 where column1 is not null
on conflict (name) do update set free_us = excluded.free_us, last_us = excluded.last_us, total = excluded.total;

-- spend.current: the later of two instants is not called max
select c.at_ms, s.purse, s.dimension, s.per, s.starts_ms, s.ends_ms, s.settled, s.warned
  from (select at_ms, greatest(at_ms, case when abs(:wall_ms - :now_ms) < :parted_ms
                                           then :wall_ms - :wall_ms % 60000 else 0 end) as moved_ms from calendar) as c
  left join spend s
    on s.purse in ('fleet', 'agent:' || :agent, 'service:' || :service, 'budget:' || :budget, 'task:' || :task)
   and s.ends_ms > c.moved_ms and s.starts_ms <= c.moved_ms;

-- spend.turn: the same
update calendar set at_ms = greatest(at_ms, :at_ms);

-- spend.every: the same
select purse, dimension, per, starts_ms, ends_ms, settled, warned
  from spend
 where ends_ms > greatest((select at_ms from calendar), :minute_ms)
   and starts_ms <= greatest((select at_ms from calendar), :minute_ms)
 order by purse, dimension, per;

-- allotment.keep_meters: elements of a list are JSON
insert into meter (name, free_us, last_us, total)
select value ->> 0, cast(value ->> 1 as bigint), cast(value ->> 2 as bigint), cast(value ->> 3 as bigint)
  from jsonb_array_elements(cast(:meters as jsonb))
on conflict (name) do update set free_us = excluded.free_us, last_us = excluded.last_us, total = excluded.total
 where excluded.total >= meter.total;

-- call.admit_at_once: the usual admission as policy.admission decides it, or which slot is too far away, or no row
with calendar_now as (
  select at_ms from calendar
   where at_ms > 0 and at_ms >= case when abs(:wall_ms - :now_ms) < :parted_ms then :wall_ms - :wall_ms % 60000 else 0 end
     and at_ms < :turns_ms
), held as (
  select service, budget, agent, calendar_ms, count(*) as places, cast(sum(money) as bigint) as money,
         cast(sum(calls) as bigint) as calls, cast(sum(tokens) as bigint) as tokens
    from call where state = 'open' group by service, budget, agent, calendar_ms
), need as (
  select cap.purse, cap.dimension, cap.per, cap.cap,
         case cap.dimension when 'money' then :money when 'tokens' then :tokens else :calls end as need
    from jsonb_to_recordset(cast(:caps as jsonb)) as cap (purse text, dimension text, per text, cap bigint)
), apart as (
  select id, service, budget, agent, calendar_ms, greatest(0, money - used_money) as money,
         greatest(0, calls - used_calls) as calls, greatest(0, tokens - used_tokens) as tokens
    from aside where ended_ms is null
), own as (
  select apart.id, apart.calendar_ms, apart.money, apart.calls, apart.tokens
    from apart cross join calendar_now
   where apart.id = :aside and apart.agent = :agent and apart.budget is not distinct from :budget
     and apart.calendar_ms <= calendar_now.at_ms
), standing as (
  select need.need - least(need.need,
           coalesce((select case need.dimension when 'money' then own.money when 'tokens' then own.tokens
                                                else own.calls end
                       from own
                      where spend.starts_ms <= own.calendar_ms and own.calendar_ms < spend.ends_ms), 0)) as need,
         need.cap, spend.settled,
         coalesce((select sum(case need.dimension when 'money' then apart.money when 'tokens' then apart.tokens
                                                  else apart.calls end)
                     from apart
                    where need.purse in ('fleet', 'agent:' || apart.agent, 'service:' || apart.service,
                                         'budget:' || apart.budget)
                      and spend.starts_ms <= apart.calendar_ms and apart.calendar_ms < spend.ends_ms), 0) +
         coalesce((select sum(case need.dimension when 'money' then held.money when 'tokens' then held.tokens
                                                  else held.calls end)
                     from held
                    where need.purse in ('fleet', 'agent:' || held.agent, 'service:' || held.service,
                                         'budget:' || held.budget)
                      and spend.starts_ms <= held.calendar_ms and held.calendar_ms < spend.ends_ms), 0) as held
    from need
   cross join calendar_now
    left join spend on spend.purse = need.purse and spend.dimension = need.dimension and spend.per = need.per
     and spend.ends_ms > calendar_now.at_ms and spend.starts_ms <= calendar_now.at_ms
), gauged as (
  select gauge.place, gauge.name, gauge.per_us, gauge.amount, coalesce(meter.free_us, 0) as free_us,
         coalesce(meter.last_us, 0) as last_us, coalesce(meter.total, 0) as total, gauge.burst,
         coalesce(cast(cast(:weights as jsonb) ->> gauge.dimension as bigint), 0) as weight
    from jsonb_to_recordset(cast(:gauges as jsonb))
           as gauge (place bigint, name text, dimension text, per_us bigint, amount bigint, burst bigint)
    left join meter on meter.name = gauge.name
), rate as (
  select place, name, per_us, amount, free_us, last_us, total, weight,
         free_us - div(cast(greatest(0, burst - weight) as numeric) * per_us, amount) as from_us
    from gauged
), slot as (
  select greatest(:now_ms * 1000, max(from_us)) as at_us from rate
), fits as (
  select cast(slot.at_us as bigint) as at_us, calendar_now.at_ms
    from slot cross join calendar_now
   where (cast(:most as bigint) is null
          or coalesce((select sum(places) from held where held.service = :service), 0) < cast(:most as bigint))
     and not exists (select 1 from standing
                      where settled is null or (need > 0 and settled + held + need > cap))
     and exists (select 1 from fleet where rules = :rules)
), decided as (
  select at_us, at_ms from fits
   where at_us <= :now_ms * 1000 + :horizon_us
     and (cast(:until_us as bigint) is null or at_us <= greatest(:until_us, :now_ms * 1000))
), reserved as (
  select rate.name, rate.weight, rate.total + rate.weight as total, greatest(rate.last_us, decided.at_us) as last_us,
         greatest(rate.free_us, decided.at_us)
           + cast(div(cast(rate.weight as numeric) * rate.per_us + rate.amount - 1, rate.amount) as bigint) as free_us
    from rate cross join decided where rate.weight > 0
), added as (
  insert into call (id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms,
                    calendar_ms, until_ms, weights, money, calls, tokens, held_money, held_calls, held_tokens, sharing,
                    aside)
  select :id, :key, 'open', :service, :model, :agent, :budget, :owner, :task, :run, :step, :lane, at_us, :now_ms, at_ms,
         :now_ms + :hold_ms,
         coalesce((select cast(jsonb_object_agg(name, jsonb_build_array(weight, total)) as text) from reserved), '{}'),
         :money, :calls, :tokens, :money, :calls, :tokens, 0, (select id from own)
    from decided
  on conflict (id) do nothing
  returning id
), drawn as (
  update aside
     set used_money = used_money + :money, used_calls = used_calls + :calls, used_tokens = used_tokens + :tokens
    from own cross join added
   where aside.id = own.id
), kept as (
  insert into meter (name, free_us, last_us, total)
  select name, free_us, last_us, total from reserved where exists (select 1 from added)
  on conflict (name) do update set free_us = excluded.free_us, last_us = excluded.last_us, total = excluded.total
), told as (
  insert into record (at_ms, kind, subject, agent, task, data)
  select :wall_ms, 'call.admitted', :id, :agent, :task,
         '{"wait_ms":' || greatest(0, at_us / 1000 - :now_ms) || ',' || substr(:facts, 2)
    from decided where exists (select 1 from added)
)
select fits.at_us as slot_us,
       case when added.id is null then :now_ms * 1000 end as now_us,
       case when added.id is null then (select name from rate where from_us = fits.at_us order by place limit 1) end as slowest,
       set_config('longwatch.changed', case when added.id is null then 'no' else 'yes' end, false) as changed
  from fits left join added on true
 where added.id is not null
    or (not exists (select 1 from decided) and not exists (select 1 from call where id = :id));

-- call.settle_at_once: the usual settlement, or no row and nothing changed; fails where there is something new to warn of
with found as (
  select id, agent, task, service, budget, slot_us, calendar_ms, held_money, held_tokens, aside, cast(weights as jsonb) as weights,
         coalesce(cast(:money as bigint), held_money) as money, held_calls as calls,
         coalesce(cast(:tokens as bigint), held_tokens) as tokens
    from call where id = :id and owner = :owner and state = 'open' and sharing <> 2
), corrected as (
  select gauge.name, gauge.per_us, gauge.amount, found.slot_us, coalesce(meter.free_us, 0) as free_us,
         coalesce(meter.last_us, 0) as last_us, coalesce(meter.total, 0) as total,
         cast(cast(:used as jsonb) ->> gauge.dimension as bigint) as used,
         coalesce(cast(found.weights -> gauge.name ->> 0 as bigint), 0) as reserved,
         coalesce(cast(found.weights -> gauge.name ->> 1 as bigint), meter.total, 0) as total_then,
         found.weights -> gauge.name is not null as weighed
    from jsonb_to_recordset(cast(:gauges as jsonb))
           as gauge (name text, dimension text, per_us bigint, amount bigint, burst bigint)
   cross join found
    left join meter on meter.name = gauge.name
   where cast(:used as jsonb) ->> gauge.dimension is not null
     and cast(cast(:used as jsonb) ->> gauge.dimension as bigint)
         <> coalesce(cast(found.weights -> gauge.name ->> 0 as bigint), 0)
), after as (
  select name, used, weighed, total_then, total + greatest(0, used - reserved) as total,
         case when used > reserved then greatest(last_us, slot_us) else last_us end as last_us,
         case when used > reserved
              then greatest(free_us, slot_us)
                   + cast(div(cast(used - reserved as numeric) * per_us + amount - 1, amount) as bigint)
              else least(free_us,
                         greatest(free_us - cast(div(cast(reserved - used as numeric) * per_us, amount) as bigint),
                                  last_us + cast(div(cast(total - total_then as numeric) * per_us + amount - 1, amount)
                                                 as bigint)))
         end as free_us
    from corrected
), kept as (
  insert into meter (name, free_us, last_us, total) select name, free_us, last_us, total from after
  on conflict (name) do update set free_us = excluded.free_us, last_us = excluded.last_us, total = excluded.total
), closed as (
  update call set state = 'settled', money = found.money, calls = found.calls, tokens = found.tokens, ended_ms = :now_ms,
                  told_money = null, told_tokens = null,
                  weights = cast(found.weights || coalesce(
                    (select jsonb_object_agg(name, jsonb_build_array(used, case when weighed then total_then else total end))
                       from after), '{}') as text)
    from found where call.id = found.id
  returning call.id
), drawn as (
  update aside
     set used_money = used_money + found.money - found.held_money,
         used_tokens = used_tokens + found.tokens - found.held_tokens
    from found where aside.id = found.aside
), charged as (
  update spend
     set settled = settled + case dimension when 'money' then found.money when 'tokens' then found.tokens
                                            else found.calls end
    from found
   where purse in ('fleet', 'agent:' || found.agent, 'service:' || found.service, 'budget:' || found.budget)
     and ends_ms > found.calendar_ms and starts_ms <= found.calendar_ms
  returning purse, dimension, per, settled, warned
), told as (
  insert into record (at_ms, kind, subject, agent, task, data)
  select :wall_ms, 'call.settled', id, agent, task,
         '{"move":"settle","money":' || money || ',"held":' || held_money || ',"service":'
           || (cast(:facts as json) -> 'service') || ',"budget":' || (cast(:facts as json) -> 'budget') || '}'
    from found
)
select 1 / (1 - (select least(count(*), 1)
                   from charged join jsonb_to_recordset(cast(:marks as jsonb))
                                       as mark (purse text, dimension text, per text, mark bigint, amount bigint)
                     on mark.purse = charged.purse and mark.dimension = charged.dimension and mark.per = charged.per
                  where charged.settled >= mark.amount and charged.warned < mark.mark)) as met
  from closed;
