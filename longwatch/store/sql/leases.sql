-- live_by_id: a lease that has not ended
select id, fence, until_ms from lease
 where id = :id and until_ms > :now_ms and boot_id = (select boot_id from fleet);

-- held: who holds any of these resources, one row for each, the longest first; live: 0 when it is over
select l.id, l.fence, l.owner, l.agent, l.task, l.until_ms, o.resource,
       l.until_ms > :now_ms and l.boot_id = (select boot_id from fleet) as live
  from lease_on o join lease l on l.id = o.lease
 where o.resource in (select value from json_each(:resources))
 order by l.until_ms desc, o.resource;

-- ahead: who stands in line before this one, and has asked lately; who has been silent is a newcomer
select id, agent, task, resources, asked_ms from lease_waiter
 where asked_ms > :now_ms - :silent_ms and seq < coalesce((select seq from lease_waiter where id = :id and asked_ms > :now_ms - :silent_ms), 4611686018427387904)
 order by seq;

-- stand_in_line: join the line at its end, or confirm a place in it
insert into lease_waiter (id, owner, agent, task, resources, asked_ms)
values (:id, :owner, :agent, :task, :resources, :now_ms)
on conflict (id) do update set asked_ms = :now_ms;

-- leave_line: give up a place
delete from lease_waiter where id = :id;

-- clear_line: drop the places of the silent
delete from lease_waiter where asked_ms <= :now_ms - :silent_ms;

-- clear_line_of: drop every place of an owner that is dead
delete from lease_waiter where owner = :owner;

-- take: the lease itself
insert into lease (id, fence, owner, agent, task, edit, ttl_ms, until_ms, boot_id)
values (:id, :fence, :owner, :agent, :task, :edit, :ttl_ms, :now_ms + :ttl_ms, (select boot_id from fleet));

-- take_on: what it covers; a resource that is still taken is an error
insert into lease_on (resource, lease) select value, :id from json_each(:resources);

-- renew: push leases on, each by its own length, for their present owner only and only while they have not run out
update lease set until_ms = :now_ms + ttl_ms
 where id in (select value from json_each(:ids)) and owner = :owner
   and until_ms > :now_ms and boot_id = (select boot_id from fleet)
returning id, until_ms;

-- current: the lease, if it is still the one with this fence and has not run out
select until_ms from lease
 where id = :id and fence = :fence and until_ms > :now_ms and boot_id = (select boot_id from fleet);

-- end: whether it ran out or not
delete from lease where id = :id returning fence, agent, task;

-- end_on: what it covered
delete from lease_on where lease = :lease returning resource;

-- over: leases that have run out, or belong to another boot
select id from lease where until_ms <= :now_ms or boot_id <> (select boot_id from fleet) order by until_ms, id limit :limit;

-- of_owner: every lease of an owner
select id from lease where owner = :owner;

-- live: every lease that has not ended, the soonest to end first, one row for each resource
select l.id, l.fence, l.owner, l.agent, l.task, l.edit, l.until_ms, o.resource
  from lease l left join lease_on o on o.lease = l.id
 where l.until_ms > :now_ms and l.boot_id = (select boot_id from fleet)
 order by l.until_ms, l.id, o.resource;
