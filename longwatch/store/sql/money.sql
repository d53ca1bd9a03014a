-- earn: what a task brought in; said again it replaces, and the same once more changes nothing
insert into earning (key, at_ms, task, agent, budget, micros, currency, note, kind)
values (:key, :wall_ms, :task, :agent, :budget, :micros, :currency, :note, (select kind from task where id = :task))
on conflict (key) do update set micros = excluded.micros, currency = excluded.currency, note = excluded.note
 where earning.micros <> excluded.micros or earning.currency <> excluded.currency or earning.note <> excluded.note;

-- costs: what calls cost and hold, by what is asked for. A day is a number of days since 1970 by a zone's clocks, found from
-- quarters of an hour, of which every change of clocks is at a beginning. zones: stretches of one offset to UTC, three
-- numbers of 16 digits each. Archived calls are counted by the day
with part as materialized (
  select case when cast(:by_budget as bigint) = 1 then call.budget end as budget,
         case when cast(:by_agent as bigint) = 1 then call.agent end as agent,
         case when cast(:by_service as bigint) = 1 then service end as service,
         case when cast(:by_model as bigint) = 1 then model end as model,
         task.kind as kind,
         case when cast(:by_day as bigint) = 1 then calendar_ms / 900000 * 900000 end as quarter_ms,
         count(*) as calls,
         sum(case call.state when 'unknown' then 1 else 0 end) as doubts,
         sum(case call.state when 'settled' then money else 0 end) as settled,
         sum(case call.state when 'unknown' then money else 0 end) as unknown,
         sum(case call.state when 'open' then money else 0 end) as held,
         sum(case call.state when 'open' then 0 else tokens end) as tokens
    from call left join task on task.id = case when cast(:by_kind as bigint) = 1 then call.task end
   where calendar_ms >= :since_ms and calendar_ms < :until_ms and call.state <> 'released'
   group by 1, 2, 3, 4, 5, 6
   union all
  select case when cast(:by_budget as bigint) = 1 then nullif(budget, '') end,
         case when cast(:by_agent as bigint) = 1 then agent end,
         case when cast(:by_service as bigint) = 1 then service end,
         case when cast(:by_model as bigint) = 1 then nullif(model, '') end,
         case when cast(:by_kind as bigint) = 1 then nullif(kind, '') end,
         case when cast(:by_day as bigint) = 1 then starts_ms end,
         sum(places), 0, sum(money), 0, 0, sum(tokens)
    from retired_cost
   where starts_ms >= :since_ms and starts_ms < :until_ms
   group by 1, 2, 3, 4, 5, 6
), zone as materialized (
  select cast(substr(value, 1, 16) as bigint) as starts_ms, cast(substr(value, 17, 16) as bigint) as ends_ms,
         cast(substr(value, 33, 16) as bigint) as offset_ms
    from json_each(:zones)
)
select part.budget, part.agent, part.service, part.model, part.kind,
       (part.quarter_ms + zone.offset_ms) / 86400000 as day,
       sum(part.calls) as calls, sum(part.doubts) as doubts, sum(part.settled) as settled,
       sum(part.unknown) as unknown, sum(part.held) as held, sum(part.tokens) as tokens
  from part
  left join zone on part.quarter_ms >= zone.starts_ms and part.quarter_ms < zone.ends_ms
 group by 1, 2, 3, 4, 5, 6
 limit :limit;

-- earned: what tasks brought in, in the same way. Amounts of other currencies stay apart, so that each can be converted
-- by itself: each is one such amount, 0 of the fleet's own
with part as materialized (
  select case when cast(:by_budget as bigint) = 1 then earning.budget end as budget,
         case when cast(:by_agent as bigint) = 1 then earning.agent end as agent,
         case when cast(:by_kind as bigint) = 1 then coalesce(earning.kind, task.kind) end as kind,
         case when cast(:by_day as bigint) = 1 then at_ms / 900000 * 900000 end as quarter_ms,
         currency, case when currency = :currency then 0 else micros end as each,
         count(*) as entries, sum(micros) as micros
    from earning
    left join task on task.id = case when cast(:by_kind as bigint) = 1 and earning.kind is null then earning.task end
   where at_ms >= :since_ms and at_ms < :until_ms
   group by 1, 2, 3, 4, 5, 6
), zone as materialized (
  select cast(substr(value, 1, 16) as bigint) as starts_ms, cast(substr(value, 17, 16) as bigint) as ends_ms,
         cast(substr(value, 33, 16) as bigint) as offset_ms
    from json_each(:zones)
)
select part.budget, part.agent, part.kind, (part.quarter_ms + zone.offset_ms) / 86400000 as day,
       part.currency, part.each, sum(part.entries) as entries, sum(part.micros) as micros
  from part
  left join zone on part.quarter_ms >= zone.starts_ms and part.quarter_ms < zone.ends_ms
 group by 1, 2, 3, 4, 5, 6
 limit :limit;
