-- call.beat: the later of two instants is not called max
update call set until_ms = greatest(until_ms, :now_ms + :hold_ms) where owner = :owner and state = 'open';

-- meter.keep: what a list of values holds has to be said
insert into meter (name, free_us, last_us, total)
select * from (values (cast(:first as text), cast(:first_free_us as bigint), cast(:first_last_us as bigint),
                       cast(:first_total as bigint)),
                      (:second, :second_free_us, :second_last_us, :second_total),
                      (:third, :third_free_us, :third_last_us, :third_total)) as kept
 where column1 is not null
on conflict (name) do update set free_us = excluded.free_us, last_us = excluded.last_us, total = excluded.total;

-- spend.current: the later of two instants is not called max
select c.at_ms, s.purse, s.dimension, s.per, s.starts_ms, s.ends_ms, s.settled, s.warned
  from (select at_ms, greatest(at_ms, case when abs(:wall_ms - :now_ms) < :parted_ms
                                           then :wall_ms - :wall_ms % 60000 else 0 end) as moved_ms from calendar) as c
  left join spend s
    on s.purse in ('fleet', 'agent:' || :agent, 'service:' || :service, 'budget:' || :budget)
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
