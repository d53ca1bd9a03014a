-- fleet.latest_instant: the greatest of several values is not called max
select greatest(coalesce((select max(submitted_ms) from task), 0),
                coalesce((select max(started_ms) from run), 0),
                coalesce((select max(ended_ms) from task), 0),
                coalesce((select max(beat_ms) from worker), 0),
                coalesce((select admitted_ms from call order by seq desc limit 1), 0),
                coalesce((select greatest(upkeep_ms, offset_ms) from fleet), 0)) as at_ms;

-- tasks.beat: elements of a list are text
update task set until_ms = :until_ms
 where owner = :owner and state in ('claimed', 'running') and until_ms > :now_ms
   and fence in (select cast(value as bigint) from json_each(:fences))
returning fence;

-- look.lives: the engine's version
select name, created_ms, epoch, fence, boot_id, current_setting('server_version') as engine, :now_ms as steady_ms,
       :wall_ms as calendar_ms
  from fleet;

-- backup.carry_spend: elements of a list are JSON, and the greater of two values is not called max
insert into spend (purse, ends_ms, dimension, per, starts_ms, settled)
select value ->> 0, cast(value ->> 1 as bigint), value ->> 2, value ->> 3, cast(value ->> 4 as bigint),
       cast(value ->> 5 as bigint)
  from jsonb_array_elements(cast(:rows as jsonb))
on conflict (purse, ends_ms, dimension, per) do update set settled = greatest(spend.settled, excluded.settled);

-- backup.carry_meters: the same
insert into meter (name, free_us, last_us, total)
select value ->> 0, cast(value ->> 1 as bigint), cast(value ->> 2 as bigint), cast(value ->> 3 as bigint)
  from jsonb_array_elements(cast(:rows as jsonb))
on conflict (name) do update
   set free_us = greatest(meter.free_us, excluded.free_us), last_us = greatest(meter.last_us, excluded.last_us),
       total = greatest(meter.total, excluded.total);

-- backup.carry_calendar: the later of two instants is not called max
update calendar set at_ms = greatest(at_ms, :at_ms);
