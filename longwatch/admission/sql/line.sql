-- stand: take a place at the end of a lane; a repetition keeps the one it has
insert into ticket (id, line, lane, owner, agent, task, since_ms)
values (:id, :line, :lane, :owner, :agent, :task, :now_ms)
on conflict (id) do nothing;

-- seen: the owner has looked
insert into waiter (owner, line, seen_ms) values (:owner, :line, :now_ms)
on conflict (owner, line) do update set seen_ms = excluded.seen_ms;

-- heads: of each lane the first :most places of those who have looked lately, and how many there are
select lane, id, place, waiting
  from (select t.lane, t.id, row_number() over (partition by t.lane order by t.seq) as place,
               count(*) over (partition by t.lane) as waiting
          from ticket t join waiter w on w.owner = t.owner and w.line = t.line
         where t.line = :line and w.seen_ms > :now_ms - :silent_ms) as standing
 where place <= :most order by lane, place;

-- given: the passes of a line's lanes
select lane, given from lane where line = :line;

-- counts: how many wait in each lane, whether they have looked or not
select lane, count(*) as waiting from ticket where line = :line group by lane;

-- give: the lane's pass from now on
insert into lane (line, lane, given) values (:line, :lane, :given)
on conflict (line, lane) do update set given = excluded.given;

-- grown: the lane was given a slot
update lane set given = given + :stride where line = :line and lane = :lane;

-- ahead: how many of its lane stand before a ticket
select t.line, t.lane, (select count(*) from ticket o join waiter w on w.owner = o.owner and w.line = o.line
                         where o.line = t.line and o.lane = t.lane and o.seq < t.seq
                           and w.seen_ms > :now_ms - :silent_ms) as ahead
  from ticket t where t.id = :id;

-- leave: give up a place
delete from ticket where id = :id;

-- leave_all: those of an owner that is dead
delete from ticket where owner = :owner;

-- clear: places of those who have been silent for long
delete from ticket where line = :line
   and owner not in (select owner from waiter where line = :line and seen_ms > :now_ms - :gone_ms);

-- clear_seen: and when they looked last
delete from waiter where line = :line and seen_ms <= :now_ms - :gone_ms;

-- every: how many wait, by line and lane, and since when
select line, lane, count(*) as waiting, min(since_ms) as since_ms from ticket group by line, lane order by line, lane;
