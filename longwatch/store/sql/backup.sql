-- set_epoch: every fence given so far, in this history or the one it replaces, is overtaken
update fleet set epoch = :epoch, fence = 0;

-- drop_waiters: nobody stands in line any more
delete from lease_waiter;

-- drop_covers: no lease covers anything any more
delete from lease_on;

-- drop_leases: every lease has ended
delete from lease returning id, fence, agent, task;

-- doubt_calls: nobody knows what became of calls that were open when the copy was made
update call set until_ms = 0 where state = 'open';

-- carry_spend: what the replaced state knows to be spent stays spent: [[purse, ends, dimension, per, starts, settled], ...]
insert into spend (purse, ends_ms, dimension, per, starts_ms, settled)
select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 from json_each(:rows) where true
on conflict (purse, ends_ms, dimension, per) do update set settled = max(settled, excluded.settled);

-- carry_meters: slots that were given stay given: [[name, free, last, total], ...]
insert into meter (name, free_us, last_us, total)
select value ->> 0, value ->> 1, value ->> 2, value ->> 3 from json_each(:rows) where true
on conflict (name) do update
   set free_us = max(free_us, excluded.free_us), last_us = max(last_us, excluded.last_us), total = max(total, excluded.total);

-- carry_calendar: the budgets' calendar never goes back
update calendar set at_ms = max(at_ms, :at_ms);
