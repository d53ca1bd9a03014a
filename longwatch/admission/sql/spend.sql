-- current: the budgets' calendar, and beside it the purses' windows that hold it as it moves on now, as
-- policy.window.calendar_at says (one row of nulls without any)
select c.at_ms, s.purse, s.dimension, s.per, s.starts_ms, s.ends_ms, s.settled, s.warned
  from (select at_ms, max(at_ms, case when abs(:wall_ms - :now_ms) < :parted_ms
                                      then :wall_ms - :wall_ms % 60000 else 0 end) as moved_ms from calendar) as c
  left join spend s
    on s.purse in ('fleet', 'agent:' || :agent, 'service:' || :service, 'budget:' || :budget, 'task:' || :task)
   and s.ends_ms > c.moved_ms and s.starts_ms <= c.moved_ms;

-- calendar: how far the budgets' calendar has got
select at_ms from calendar;

-- turn: the calendar moves on; never back
update calendar set at_ms = max(at_ms, :at_ms);

-- open: a purse's window, with what calls made in it before have cost already; the calendar only moves forwards, so
-- that these are the newest calls, and no index is needed to find the first of them. Archived ones are counted by the minute
-- and the hour while they are young, then by the day: what is longer than a window is not of it
insert into spend (purse, ends_ms, dimension, per, starts_ms, settled, away)
select :purse, :ends_ms, :dimension, :per, :starts_ms,
       coalesce(sum(case :dimension when 'money' then money when 'tokens' then tokens else calls end), 0),
       coalesce(sum(away * case :dimension when 'money' then money when 'tokens' then tokens else calls end), 0)
  from (select service, budget, agent, away, money, calls, tokens
          from call
         where seq > coalesce((select seq from call where calendar_ms < :starts_ms order by seq desc limit 1), 0)
           and calendar_ms < :ends_ms and state in ('settled', 'unknown')
         union all
        select service, nullif(budget, '') as budget, agent, away, money, calls, tokens
          from retired_cost
         where ends_ms > :starts_ms and starts_ms < :ends_ms and ends_ms - starts_ms <= 2 * (:ends_ms - :starts_ms)
           and starts_ms > :starts_ms - 2 * (:ends_ms - :starts_ms)) as made  -- which follows, and is found by the key
 where (:purse = 'fleet' or :purse = 'budget:' || budget or :purse = 'agent:' || agent or :purse = 'service:' || service)
on conflict (purse, ends_ms, dimension, per) do nothing
returning settled;

-- charge: add to every window that holds the call's instant; amounts may be negative
update spend
   set settled = settled + case dimension when 'money' then :money when 'tokens' then :tokens else :calls end
 where purse in ('fleet', 'agent:' || :agent, 'service:' || :service, 'budget:' || :budget, 'task:' || :task)
   and ends_ms > :calendar_ms and starts_ms <= :calendar_ms
returning purse, dimension, per, ends_ms, settled, warned;

-- warn: a threshold has been told of
update spend set warned = :warned
 where purse = :purse and ends_ms = :ends_ms and dimension = :dimension and per = :per;

-- every: all windows that hold an instant, for the listing
select purse, dimension, per, starts_ms, ends_ms, settled, warned
  from spend
 where ends_ms > max((select at_ms from calendar), :minute_ms)
   and starts_ms <= max((select at_ms from calendar), :minute_ms)
 order by purse, dimension, per;
