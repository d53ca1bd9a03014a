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

-- call.admit_at_once: a procedure: the usual admission as policy.admission decides it, or which slot is too far, or nothing
declare
  minute_ms constant bigint := case when abs(:wall_ms - :now_ms) < :parted_ms then :wall_ms - :wall_ms % 60000 else 0 end;
  turned_ms bigint;
  taken bigint;
  spent boolean;
  own_aside text;
  at_us bigint;
  later_us bigint;  -- behind the last slot
  reserved text;
begin
  select at_ms into turned_ms from calendar cross join fleet
   where at_ms > 0 and at_ms >= minute_ms and at_ms < :turns_ms and fleet.rules = :rules;
  if turned_ms is null then return; end if;

  with claimed as (  -- by open calls, and set aside for calls to come
    select service, budget, agent, calendar_ms, count(*) as places, cast(sum(money) as bigint) as money,
           cast(sum(calls) as bigint) as calls, cast(sum(tokens) as bigint) as tokens
      from call where state = 'open' group by service, budget, agent, calendar_ms
    union all
    select service, budget, agent, calendar_ms, 0, greatest(0, money - used_money), greatest(0, calls - used_calls),
           greatest(0, tokens - used_tokens)
      from aside where ended_ms is null
  ), own as (
    select id, calendar_ms, greatest(0, money - used_money) as money, greatest(0, calls - used_calls) as calls,
           greatest(0, tokens - used_tokens) as tokens
      from aside
     where id = :aside and ended_ms is null and agent = :agent and budget is not distinct from :budget
       and calendar_ms <= turned_ms
  ), need as (
    select cap.purse, cap.dimension, cap.amount, spend.settled, spend.starts_ms, spend.ends_ms,
           given.need - least(given.need,
             coalesce((select case cap.dimension when 'money' then own.money when 'tokens' then own.tokens
                                                 else own.calls end
                         from own where spend.starts_ms <= own.calendar_ms and own.calendar_ms < spend.ends_ms), 0)) as need
      from unnest(cast(:purses as text[]), cast(:dimensions as text[]), cast(:pers as text[]), cast(:caps as bigint[]))
             as cap (purse, dimension, per, amount)
     cross join lateral (select case cap.dimension when 'money' then :money when 'tokens' then :tokens
                                                   else :calls end as need) as given
      left join spend on spend.purse = cap.purse and spend.dimension = cap.dimension and spend.per = cap.per
       and spend.ends_ms > turned_ms and spend.starts_ms <= turned_ms
  )
  select coalesce((select sum(places) from claimed where service = :service), 0), (select id from own),
         exists (select 1 from need
                  where settled is null
                     or (need > 0 and amount < settled + need
                         + coalesce((select sum(case need.dimension when 'money' then claimed.money
                                                                    when 'tokens' then claimed.tokens
                                                                    else claimed.calls end)
                                       from claimed
                                      where need.purse in ('fleet', 'agent:' || agent, 'service:' || service,
                                                           'budget:' || budget)
                                        and starts_ms <= calendar_ms and calendar_ms < ends_ms), 0)))
    into taken, own_aside, spent;
  if spent or taken >= cast(:most as bigint) then return; end if;

  select greatest(:now_ms * 1000, max(free_us - cast(div(cast(greatest(0, burst - weight) as numeric) * per_us, amount)
                                                     as bigint))),
         max(last_us + apart_us) filter (where apart_us > 0 and last_us <> 0
                                           and 20 * (last_us - :now_ms * 1000) <= 3 * (free_us - :now_ms * 1000)),
         coalesce(cast(jsonb_object_agg(name, jsonb_build_array(weight, total + weight)) filter (where weight > 0)
                       as text), '{}')
    into at_us, later_us, reserved
    from (select gauge.name, per_us, amount, burst, weight, coalesce(meter.free_us, 0) as free_us,
                 coalesce(meter.last_us, 0) as last_us, coalesce(meter.total, 0) as total, apart_us
            from unnest(cast(:meters as text[]), cast(:pers_us as bigint[]), cast(:amounts as bigint[]),
                        cast(:bursts as bigint[]), cast(:weights as bigint[]), cast(:aparts_us as bigint[]))
                   as gauge (name, per_us, amount, burst, weight, apart_us)
            left join meter on meter.name = gauge.name) as gauged;
  if later_us > at_us and (:until_us is null or later_us <= greatest(:until_us, :now_ms * 1000)) then at_us := later_us; end if;
  if at_us > :now_ms * 1000 + :horizon_us or (:until_us is not null and at_us > greatest(:until_us, :now_ms * 1000)) then
    if not exists (select 1 from call where id = :id) then
      given_us := at_us;
      now_us := :now_ms * 1000;
      select gauge.name into slowest
        from unnest(cast(:meters as text[]), cast(:pers_us as bigint[]), cast(:amounts as bigint[]),
                    cast(:bursts as bigint[]), cast(:weights as bigint[]))
               with ordinality as gauge (name, per_us, amount, burst, weight, place)
        left join meter on meter.name = gauge.name
       where at_us = coalesce(meter.free_us, 0)
                     - cast(div(cast(greatest(0, burst - weight) as numeric) * per_us, amount) as bigint)
       order by place limit 1;
    end if;
    return;
  end if;

  insert into call (id, key, state, service, model, agent, budget, owner, task, run, step, lane, slot_us, admitted_ms,
                    calendar_ms, until_ms, weights, money, calls, tokens, held_money, held_calls, held_tokens, sharing,
                    aside)
  values (:id, :key, 'open', :service, :model, :agent, :budget, :owner, :task, :run, :step, :lane, at_us, :now_ms,
          turned_ms, :now_ms + :hold_ms, reserved, :money, :calls, :tokens, :money, :calls, :tokens, 0, own_aside)
  on conflict (id) do nothing;
  if not found then return; end if;

  insert into meter (name, free_us, last_us, total)
  select gauge.name, greatest(coalesce(free_us, 0), at_us)
                     + cast(div(cast(weight as numeric) * per_us + amount - 1, amount) as bigint),
         greatest(coalesce(last_us, 0), at_us), coalesce(total, 0) + weight
    from unnest(cast(:meters as text[]), cast(:pers_us as bigint[]), cast(:amounts as bigint[]), cast(:weights as bigint[]))
           as gauge (name, per_us, amount, weight)
    left join meter on meter.name = gauge.name
   where weight > 0
  on conflict (name) do update set free_us = excluded.free_us, last_us = excluded.last_us, total = excluded.total;

  if own_aside is not null then
    update aside
       set used_money = used_money + :money, used_calls = used_calls + :calls, used_tokens = used_tokens + :tokens
     where id = own_aside;
  end if;

  insert into record (at_ms, kind, subject, agent, task, data)
  values (:wall_ms, 'call.admitted', :id, :agent, :task,
          '{"wait_ms":' || greatest(0, at_us / 1000 - :now_ms) || ',' || substr(:facts, 2));
  given_us := at_us;
  changed := true;
end;

-- call.settle_at_once: a procedure: the usual settlement, or nothing; fails where there is something new to warn of
declare
  it record;
  corrections jsonb := '{}';
  unmet bigint;
begin
  select id, agent, task, service, budget, slot_us, calendar_ms, held_money, held_tokens, aside,
         cast(weights as jsonb) as weights, coalesce(cast(:money as bigint), held_money) as money, held_calls as calls,
         coalesce(cast(:tokens as bigint), held_tokens) as tokens
    into it
    from call where id = :id and owner = :owner and state = 'open' and sharing <> 2;
  if it.id is null then return; end if;

  if :used is not null then
    with corrected as (
      select gauge.name, per_us, amount, used, coalesce(meter.free_us, 0) as free_us, coalesce(meter.last_us, 0) as last_us,
             coalesce(meter.total, 0) as total, coalesce(cast(it.weights -> gauge.name ->> 0 as bigint), 0) as reserved,
             coalesce(cast(it.weights -> gauge.name ->> 1 as bigint), meter.total, 0) as total_then,
             it.weights -> gauge.name is not null as weighed
        from unnest(cast(:meters as text[]), cast(:pers_us as bigint[]), cast(:amounts as bigint[]), cast(:used as bigint[]))
               as gauge (name, per_us, amount, used)
        left join meter on meter.name = gauge.name
       where used <> coalesce(cast(it.weights -> gauge.name ->> 0 as bigint), 0)
    ), after as (
      select name, used, weighed, total_then, total + greatest(0, used - reserved) as total,
             case when used > reserved then greatest(last_us, it.slot_us) else last_us end as last_us,
             case when used > reserved
                  then greatest(free_us, it.slot_us)
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
    )
    select coalesce(jsonb_object_agg(name, jsonb_build_array(used, case when weighed then total_then else total end)), '{}')
      into corrections from after;
  end if;

  update call set state = 'settled', money = it.money, calls = it.calls, tokens = it.tokens, ended_ms = :now_ms,
                  told_money = null, told_tokens = null, weights = cast(it.weights || corrections as text)
   where id = it.id;

  if it.aside is not null then
    update aside
       set used_money = used_money + it.money - it.held_money, used_tokens = used_tokens + it.tokens - it.held_tokens
     where id = it.aside;
  end if;

  with charged as (
    update spend
       set settled = settled + case dimension when 'money' then it.money when 'tokens' then it.tokens else it.calls end
     where purse in ('fleet', 'agent:' || it.agent, 'service:' || it.service, 'budget:' || it.budget)
       and ends_ms > it.calendar_ms and starts_ms <= it.calendar_ms
    returning purse, dimension, per, settled, warned
  )
  select 1 / (1 - least(count(*), 1)) into unmet
    from charged
    join unnest(cast(:purses as text[]), cast(:dimensions as text[]), cast(:pers as text[]), cast(:caps as bigint[]),
                cast(:marks as bigint[])) as mark (purse, dimension, per, amount, mark)
      on mark.purse = charged.purse and mark.dimension = charged.dimension and mark.per = charged.per
   where charged.settled >= mark.amount and charged.warned < mark.mark;

  insert into record (at_ms, kind, subject, agent, task, data)
  values (:wall_ms, 'call.settled', it.id, it.agent, it.task,
          '{"move":"settle","money":' || it.money || ',"held":' || it.held_money
            || ',"service":' || cast(cast(:facts as json) -> 'service' as text)
            || ',"budget":' || cast(cast(:facts as json) -> 'budget' as text) || '}');
  changed := true;
end;
