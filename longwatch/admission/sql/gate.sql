-- by_name: one gate, absent while it never moved
select name, state, since_ms, until_ms, begun_ms, failures, strikes, struck_ms, reason, probe, probe_until_ms, version
  from gate where name = :name;

-- every: all that ever moved
select name, state, since_ms, until_ms, begun_ms, failures, strikes, struck_ms, reason, probe, probe_until_ms, version
  from gate order by name;

-- keep: as a decision leaves it
insert into gate (name, state, since_ms, until_ms, begun_ms, failures, strikes, struck_ms, reason, probe,
                  probe_until_ms, version)
values (:name, :state, :since_ms, :until_ms, :begun_ms, :failures, :strikes, :struck_ms, :reason, :probe,
        :probe_until_ms, :version)
on conflict (name) do update
   set state = excluded.state, since_ms = excluded.since_ms, until_ms = excluded.until_ms,
       begun_ms = excluded.begun_ms, failures = excluded.failures, strikes = excluded.strikes,
       struck_ms = excluded.struck_ms, reason = excluded.reason, probe = excluded.probe,
       probe_until_ms = excluded.probe_until_ms, version = excluded.version;

-- slow: a meter gives no slot before the instant; one that was never used begins there
insert into meter (name, free_us, last_us, total) values (:name, :free_us, 0, 0)
on conflict (name) do update
   set free_us = case when meter.free_us > excluded.free_us then meter.free_us else excluded.free_us end;

-- bar: the meter of a gate, which gives no slot before its instant; total: the gate's version
insert into meter (name, free_us, last_us, total) values (:name, :free_us, 0, :total)
on conflict (name) do update set free_us = excluded.free_us, total = excluded.total where excluded.total > meter.total;

-- meter: what enforces a gate
select free_us, total from meter where name = :name;
