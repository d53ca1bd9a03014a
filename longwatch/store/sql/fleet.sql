-- found: the fleet of this state, if it was ever entered
select name, created_ms, epoch, fence, boot_id, offset_ms, redaction_key, config, rules from fleet where one = 1;

-- schema: the number of the last migration
select user_version as number from pragma_user_version;

-- create: the first time a state is entered
insert into fleet (one, name, created_ms, epoch, fence, boot_id, offset_ms, redaction_key, config)
values (1, :name, :wall_ms, 1, 0, :boot_id, :offset_ms, :redaction_key, '{}');

-- latest_instant: the last steady instant that this state remembers, so that time never runs backwards over a boot
select max(coalesce((select submitted_ms from task order by seq desc limit 1), 0),
           coalesce((select started_ms from run order by fence desc limit 1), 0),
           coalesce((select max(ended_ms) from (select ended_ms from run order by fence desc limit 100) as latest), 0),
           coalesce((select max(beat_ms) from worker), 0),
           coalesce((select admitted_ms from call order by seq desc limit 1), 0),
           coalesce((select max(upkeep_ms, offset_ms) from fleet), 0)) as at_ms;

-- reboot: the machine has started anew; the boot clock began again at zero
update fleet set boot_id = :boot_id, offset_ms = :offset_ms;

-- take_fences: reserve `amount` fences; they end at the number returned
update fleet set fence = fence + :amount returning epoch, fence;

-- keep_config: the limits and budgets now in force, unless others are than those that were looked at
update fleet set config = :config, rules = rules + 1 where rules = :rules returning rules;

-- forget_engine: another one decides from here on, and whatever this one remembers will be out of date
update engine set generation = '';

-- take_upkeep: whoever changes the row does the upkeep
update fleet set upkeep_ms = :now_ms where upkeep_ms <= :now_ms - :every_ms;
