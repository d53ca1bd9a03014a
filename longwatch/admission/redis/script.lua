-- One decision of admission, or one move of a call, as policy.admission, policy.meter and policy.budget say it.
--
-- KEYS, all of one hash slot:
--   1 book     what is looked at together:
--      ''      the state, packed {gen, run, ready, opens, born, rules, cal}
--      '#'     packed one after the other: the last instant that anything was decided at, how many calls were, when the
--              first of those that are not among the due yet is (0: all are), how many purses there are here, and the
--              stamp of the state: the first 13 digits of the SHA-1 of its word. An older version leaves it out
--      meters  by name: packed one after the other, free, last and total, microseconds of this server's clock
--      purses  by a NUL and their name: packed {open = calls, w = {window = {from, to, spent, held, places, ceiling, dimension,
--              and of the calls that the state decided about by itself: spent, held}}}; only those with windows, and those
--              of services with a concurrency, whose calls are counted
--   2 calls    by id: packed; open calls, and ended ones that the ledger does not have yet
--   3 due      open calls by the instant from which they are unknown; usual calls (`rates`) once that is near, or they beat
--   4 loose    ended calls by the instant from which anybody may write them down
--   5 asides   by id: packed {ps = purses, cal = instant, a = amounts, u = used, o = {budget, agent}}
-- ARGV: 1 the operation, 2 its packed arguments. The answer is packed: {k = kind, now = microseconds, ...}.
-- But for `rates`, which nearly every call of a fleet without budgets is: it has one argument.
--
-- Numbers are doubles: whole up to 2^53. A rate is given as the fraction p / q of microseconds per unit, in lowest terms.

-- A call that nothing but rates limits gets its slot, if everything is as its caller believes: the state is the one he
-- knows, the calendar has not moved, no purse has windows or counts, its batch has nothing set aside for it, and the slot
-- is near. Else nothing happens, and he asks in the ordinary way. Most of what this takes is what every word costs that
-- goes in, comes out, or is made on the way: so all are one, taken apart in one go, and numbers are kept as they are.
--   KEYS: book, calls, and asides if there is a 3
-- ARGV[1], as `struct` has it: of the call how far from now the slot may be, now or -1, its id, and what is kept of it, packed,
--   behind the five that are found here and before the first total; when the calendar moves, the state's stamp, the hold in
--   ms, how many meters, and the first how many of them it weighs on; how what follows is to be taken apart: the meters'
--   names, then for each what its burst leaves free, what the call takes, where it begins when it was forgotten, its
--   weight, and how far behind the last slot it is; what is kept of the call between two totals; what it draws on, if that
--   may be set aside. Behind that the names of the purses, packed.
-- The answer, doubles in one word: now, the slot, and, packed, the totals of meters that it weighs on; else 0 when it does
-- not fit, 1 when the caller knows another state.
local function rates()
  local call, max, raw, parts, unpacked, word, book = redis.call, math.max, struct.pack, struct.unpack, cmsgpack.unpack, ARGV[1], KEYS[1]
  local patience, now, id, kept, turns, known, hold, meters, weighs, form, at = parts('<ddIc0Ic0dddBBHc0', word)
  local a = {parts(form, word, at)}
  local found = call('HMGET', book, '#', unpack(a, 1, meters))
  if not found[1] then return 1 end
  local last, seq, first, purses, stamp = unpacked(found[1])
  if stamp ~= known then return 1 end
  if now < 0 then
    local time = call('TIME')
    now = time[1] * 1000000 + time[2]
  end
  if now >= turns then return 1 end
  if now < last then return 0 end
  if purses ~= 0 then
    local names = unpacked(word:sub(a[#a]))
    for _, purse in ipairs(call('HMGET', book, unpack(names))) do if purse then return 0 end end
  end
  if KEYS[3] and call('HEXISTS', KEYS[3], a[#a - 1]) == 1 then return 0 end
  local slot = now
  for place = 1, meters do
    local figures = meters + 5 * place - 4
    local free, before, total, forgot = 0, 0, 0, true
    if found[place + 1] then free, before, total, forgot = unpacked(found[place + 1]) end
    if forgot then free = max(free, a[figures + 2]) end
    slot = max(slot, free - a[figures])
    if a[figures + 4] > 0 and before ~= 0 and 20 * (before - now) <= 3 * (free - now) then slot = max(slot, before + a[figures + 4]) end
    found[place + 1], a[figures], a[figures + 2] = free, before, total -- how it stood, instead of what is not needed any more
  end
  if slot > now + patience then return 0 end
  local ms = (now - now % 1000) / 1000
  local due = ms + hold
  seq = seq + 1
  -- 222, 0 and 13 begin a map of 13, 203 begins a double
  local begins = raw('>c7dc4dc4dc4d', '\222\0\13\162sl\203', slot, '\162at\203', ms, '\162un\203', due, '\162sq\203', seq)
  local clock = raw('>BdBdBdBdBd', 203, now, 203, seq, 203, first > 0 and first or due, 203, purses, 203, stamp)
  local words, answer, ends = {'#', clock, false, false}, raw('>dd', now, slot), ''
  for place = 1, weighs do
    local figures = meters + 5 * place - 4
    local total = a[figures + 2] + a[figures + 3]
    local sum = raw('>Bd', 203, total)
    ends = place == 1 and sum or ends .. a[6 * meters + place - 1] .. sum
    answer = answer .. sum
    words[2 * place + 1] = a[place]
    words[2 * place + 2] = raw('>BdBdBd', 203, max(found[place + 1], slot) + a[figures + 1], 203, max(a[figures], slot), 203, total)
  end
  if call('HSETNX', KEYS[2], id, begins .. kept .. ends) == 0 then return 0 end
  call('HSET', book, unpack(words))
  return answer
end
if not ARGV[2] then return rates() end

local op, a = ARGV[1], cmsgpack.unpack(ARGV[2])
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min
local packed, clock = unpack(redis.call('HMGET', KEYS[1], '', '#'))
local st, last, seq, first, all_purses, stamp = packed and cmsgpack.unpack(packed), 0, 0, 0, 0, nil
if clock then last, seq, first, all_purses, stamp = cmsgpack.unpack(clock) end
local function stamp_of(state) return tonumber(redis.sha1hex(state):sub(1, 13), 16) end
if packed and not stamp then stamp = stamp_of(packed) end

local now = a.now
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local wall_ms = a.wall or floor(now / 1000)
if last > now and not a.now then now = last end

local function say(kind, answer)
  answer = answer or {}
  answer.k, answer.now = kind, now
  return cmsgpack.pack(answer)
end

local function keep_clock() redis.call('HSET', KEYS[1], '#', cmsgpack.pack(max(now, last), seq, first, all_purses, stamp)) end
local function keep_state()
  packed = cmsgpack.pack(st)
  stamp = stamp_of(packed)
  redis.call('HSET', KEYS[1], '', packed)
  keep_clock()
end

if op == 'state' then return say('state', {st = st or nil}) end
if op == 'found' then
  for place = 1, 5 do redis.call('DEL', KEYS[place]) end
  st = {gen = a.gen, run = a.run, ready = false, opens = now + a.grace, born = a.fresh and 0 or now, rules = a.rules,
        cal = a.cal}
  last, seq, first, all_purses = 0, 0, 0, 0
  keep_state()
  return say('ok')
end
if not st or st.gen ~= a.gen then return say('lost') end

-- units refill in this many microseconds: rounded up, and rounded down
local function span(units, p, q)
  local whole = floor(units / q)
  return whole * p + ceil((units - whole * q) * p / q)
end
local function spare(units, p, q)
  local whole = floor(units / q)
  return whole * p + floor((units - whole * q) * p / q)
end

-- a meter that was forgotten, or is only known from the ledger (a fourth field), begins spent: behind every slot that
-- may have been given before
local function meter_of(gauge)
  local found = redis.call('HGET', KEYS[1], gauge.n)
  local meter = found and {cmsgpack.unpack(found)} or {0, 0, 0, 1}
  if meter[4] and st.born > 0 then meter[1] = max(meter[1], st.born + a.horizon + span(gauge.b, gauge.p, gauge.q)) end
  meter[4] = nil
  return meter
end
local function keep_meter(name, meter) redis.call('HSET', KEYS[1], name, cmsgpack.pack(unpack(meter))) end

local function call_of(id)
  local found = redis.call('HGET', KEYS[2], id)
  return found and cmsgpack.unpack(found)
end
local function keep_call(id, c) redis.call('HSET', KEYS[2], id, cmsgpack.pack(c)) end

local function purses_of(names)
  local fields = {}
  for place, name in ipairs(names) do fields[place] = '\0' .. name end
  local found = redis.call('HMGET', KEYS[1], unpack(fields))
  local purses = {}
  for place, name in ipairs(names) do
    purses[name] = found[place] and cmsgpack.unpack(found[place]) or {w = {}, absent = true}
  end
  return purses
end

local function keep_purse(name, purse)
  if purse.absent then return end
  local more
  if purse.open or next(purse.w) then
    more = redis.call('HSET', KEYS[1], '\0' .. name, cmsgpack.pack(purse))
  else
    more = -redis.call('HDEL', KEYS[1], '\0' .. name)
  end
  if more ~= 0 then
    all_purses = all_purses + more
    keep_clock()
  end
end

-- open calls of a service, which has a concurrency since its calls were last looked at
local function count_open(name, purse)
  purse.open, purse.absent = 0, nil
  local all = redis.call('HVALS', KEYS[2])
  for place = 1, #all do
    local c = cmsgpack.unpack(all[place])
    if c.s == 'open' and c.ps[#c.ps] == name then purse.open = purse.open + 1 end
  end
  keep_purse(name, purse)
end

-- add to every window of the purses that holds the instant; windows that are over are dropped
local function charge(names, purses, cal, spent, held, places)
  for place, name in ipairs(names) do
    local purse = purses[name]
    for key, w in pairs(purse.w) do
      if w[2] <= st.cal then
        purse.w[key] = nil
      elseif w[1] <= cal and cal < w[2] then
        w[3], w[4], w[5] = w[3] + spent[w[7]], w[4] + held[w[7]], w[5] + places
      end
    end
    if place == #names and purse.open then purse.open = purse.open + places end
    keep_purse(name, purse)
  end
end

local NONE = {0, 0, 0}
local function all_asides()
  local asides, all = {}, redis.call('HGETALL', KEYS[5])
  for place = 1, #all, 2 do asides[all[place]] = cmsgpack.unpack(all[place + 1]) end
  return asides
end
local function left(aside, d) return max(0, aside.a[d] - aside.u[d]) end

local function pays(names, name)
  for _, each in ipairs(names) do if each == name then return true end end
  return false
end

-- what is left of everything that is set aside in the window
local function held_aside(asides, name, w)
  local held = 0
  for _, aside in pairs(asides) do
    if w[1] <= aside.cal and aside.cal < w[2] then
      for _, purse in ipairs(aside.ps) do
        if purse == name then held = held + left(aside, w[7]) end
      end
    end
  end
  return held
end

-- a call that draws on it is charged more or less than before
local function use(id, by)
  local found = id and redis.call('HGET', KEYS[5], id)
  if not found then return end
  local aside = cmsgpack.unpack(found)
  for d = 1, 3 do aside.u[d] = aside.u[d] + by[d] end
  redis.call('HSET', KEYS[5], id, cmsgpack.pack(aside))
end

local function less(one, other) return {one[1] - other[1], one[2] - other[2], one[3] - other[3]} end
local function counted(state) return state == 'settled' or state == 'unknown' end

-- how far the budgets' calendar is: whole minutes, forwards only, not while the clocks have parted
local function turn_calendar()
  local minute = wall_ms - wall_ms % 60000
  if st.cal == 0 then
    st.cal = minute
  elseif math.abs(wall_ms - a.steady) < a.parted and minute > st.cal then
    st.cal = minute
  end
end

-- the first instant that suits every meter, and the meter that decides it. together: not apart from the last slots
local function common(gauges, found, together)
  local slot, slowest = now, ''
  for place, gauge in ipairs(gauges) do
    local free, before = found[place][1], found[place][2]
    local at = free - spare(max(0, gauge.b - gauge.w), gauge.p, gauge.q)
    if not together and gauge.w > 0 and gauge.ap > 0 and before ~= 0 and 20 * (before - now) <= 3 * (free - now) then
      at = max(at, before + gauge.ap)
    end
    if at > slot then slot, slowest = at, gauge.n end
  end
  return slot, slowest
end

local function reserve(gauges, found, slot, weights)
  for place, gauge in ipairs(gauges) do
    if gauge.w > 0 then
      local meter = found[place]
      meter = {max(meter[1], slot) + span(gauge.w, gauge.p, gauge.q), max(meter[2], slot), meter[3] + gauge.w}
      keep_meter(gauge.n, meter)
      weights[gauge.n] = {gauge.w, meter[3]}
    end
  end
end

local function correct(c, gauge, used)
  local before = c.w[gauge.n]
  if used == (before and before[1] or 0) then return end
  local meter = meter_of(gauge)
  local reserved, then_total = before and before[1] or 0, before and before[2] or meter[3]
  if used > reserved then
    local units = used - reserved
    meter = {max(meter[1], c.sl) + span(units, gauge.p, gauge.q), max(meter[2], c.sl), meter[3] + units}
  else
    local behind = meter[2] + span(meter[3] - then_total, gauge.p, gauge.q)
    local moved = meter[1] - spare(reserved - used, gauge.p, gauge.q)
    meter = {min(meter[1], max(moved, behind)), meter[2], meter[3]}
  end
  keep_meter(gauge.n, meter)
  c.w[gauge.n] = {used, before and then_total or meter[3]}
end

-- the refusal or the wait that the caps and the places ask for, if any; and the windows whose ceiling is too low.
-- own: what the call draws on; it needs room for what it does not take out of that
local function decide_purses(purses, asides, own)
  local longest, waits, low, windows, apart, needs = nil, nil, {}, {}, {}, {}
  for place, cap in ipairs(a.caps) do
    local w = purses[cap.n].w[cap.w]
    local aside, need = held_aside(asides, cap.n, w), cap.need
    local paid, kept = w[8] or 0, w[9] or 0
    if own and w[1] <= own.cal and own.cal < w[2] and pays(own.ps, cap.n) then need = need - min(need, left(own, w[7])) end
    windows[place], apart[place], needs[place] = w, aside, need
    if need > 0 and w[3] + aside + w[4] + paid + kept + need > cap.cap then
      if w[3] + aside + paid + need > cap.cap then
        if not longest or cap.to > a.caps[longest].to then longest = place end
      elseif not waits then
        waits = cap.n
      end
    elseif need > 0 and w[3] + aside + w[4] + need > w[6] then
      low[#low + 1] = {place, w[3] + aside + w[4] + need}
    end
  end
  if longest then
    local w = windows[longest]
    local paid, kept = w[8] or 0, w[9] or 0
    return say('spent', {i = longest, spent = w[3] + paid, held = w[4] + kept, places = w[5], aside = apart[longest],
                         need = needs[longest]})
  end
  if a.most and purses[a.ps[#a.ps]].open >= a.most then
    return say('later', {reason = 'concurrency', what = 'concurrency'})
  end
  if waits then return say('later', {reason = 'budget', what = waits}) end
  return nil, low
end

local function admitted(c, again)
  return say('admitted', {sl = c.sl, cal = c.cal, at = c.at, un = c.un, w = c.w, h = c.h, as = c.as, again = again})
end

local function admit()
  local c = not a.dry and call_of(a.id)
  if c then return admitted(c, true) end
  if not st.ready then
    if now >= st.opens or st.born == 0 then return say('rebuild') end
    return say('later', {at = st.opens, reason = 'rate', what = 'the start of its meters'})
  end
  local before = st.cal
  turn_calendar()
  if st.cal ~= before then keep_state() end
  if st.cal >= a.turns then return say('windows', {cal = st.cal}) end
  local purses, absent = purses_of(a.ps), false
  for _, cap in ipairs(a.caps) do
    if cap.from > st.cal or cap.to <= st.cal then return say('windows', {cal = st.cal}) end
    absent = absent or not purses[cap.n].w[cap.w]
  end
  for _, gauge in ipairs(a.gauges) do
    if gauge.w > gauge.most then return say('heavy', {name = gauge.n, w = gauge.w, most = gauge.most}) end
  end
  if absent then return say('open', {cal = st.cal}) end
  local service = a.ps[#a.ps]
  if not a.most then
    purses[service].open = nil
  elseif not purses[service].open then
    count_open(service, purses[service])
  end
  local asides = all_asides()
  local own = a.as and asides[a.as]
  if own and (own.cal > st.cal or own.o ~= a.acc) then own = nil end
  local answer, low = decide_purses(purses, asides, own)
  if answer then return answer end
  local found = {}
  for place, gauge in ipairs(a.gauges) do found[place] = meter_of(gauge) end
  local slot, slowest = common(a.gauges, found)
  local latest = a.until_us and max(a.until_us + (a.now and 0 or now - a.steady * 1000), now)
  if latest and slot > latest then slot, slowest = common(a.gauges, found, true) end
  if slot > now + a.near then
    return say('later', {at = max(slot - a.near, now + a.soonest), reason = 'rate', what = slowest})
  end
  if latest and slot > latest then
    return say('later', {at = slot, reason = 'rate', what = slowest})
  end
  if a.dry then return say('dry') end
  if a.rules ~= st.rules then return say('rules', {rules = st.rules}) end
  if #low > 0 then return say('raise', {low = low, cal = st.cal}) end
  seq = seq + 1
  local at = floor(now / 1000)
  c = {s = 'open', o = a.owner, v = 1, sl = slot, at = at, cal = st.cal, un = at + a.hold, sq = seq,
       h = a.h, ch = a.h, w = {}, ps = a.ps, row = a.row, as = own and a.as or nil}
  if own then use(a.as, c.h) end
  reserve(a.gauges, found, slot, c.w)
  charge(a.ps, purses, c.cal, NONE, c.h, 1)
  keep_call(a.id, c)
  redis.call('ZADD', KEYS[3], c.un * 1000 + c.sq % 1000, a.id)
  keep_clock()
  return admitted(c, false)
end

-- a batch sets aside what it needs of all of its services, or nothing; a.at: in the windows that hold the instant
local function set_aside()
  if not st.ready then
    if now >= st.opens or st.born == 0 then return say('rebuild') end
    return say('later', {at = st.opens, reason = 'rate', what = 'the start of its meters'})
  end
  local before = st.cal
  turn_calendar()
  if st.cal ~= before then keep_state() end
  local at = a.at == 0 and st.cal or a.at
  if at >= a.turns then return say('windows', {cal = st.cal}) end
  local asides, worst, low, full = all_asides(), nil, {}, nil
  for _, cap in ipairs(a.caps) do
    if cap.from > at or cap.to <= max(at, st.cal) then return say('windows', {cal = st.cal}) end
    if not purses_of({cap.n})[cap.n].w[cap.w] then return say('open', {cal = st.cal}) end
  end
  for place, cap in ipairs(a.caps) do
    local w = purses_of({cap.n})[cap.n].w[cap.w]
    local aside = held_aside(asides, cap.n, w)
    local reached, paid, kept = w[3] + w[4] + aside + cap.need, w[8] or 0, w[9] or 0
    if reached + paid + kept > cap.cap then
      local rank = cap.to + (cap.never and 2 ^ 50 or 0)
      if not worst or rank > worst then
        worst, full = rank, {i = place, spent = w[3] + paid, held = w[4] + kept, places = w[5], aside = aside, need = cap.need, cal = st.cal}
      end
    elseif reached > w[6] then
      low[#low + 1] = {place, reached}
    end
  end
  if full then return say('spent', full) end
  if #low > 0 then return say('raise', {low = low, cal = st.cal}) end
  if a.rules ~= st.rules then return say('rules', {rules = st.rules}) end
  if not a.dry then
    for _, each in ipairs(a.asides) do redis.call('HSET', KEYS[5], each.id, cmsgpack.pack(each)) end
  end
  return say('kept', {at = at, cal = st.cal})
end

-- batches that have ended, or were never submitted, keep nothing
local function drop()
  for _, id in ipairs(a.ids) do redis.call('HDEL', KEYS[5], id) end
  return say('ok')
end

-- a call ends, or what is known of its end changes; a.moves: the table of moves
local function finish()
  local c = call_of(a.id)
  if not c or (a.owner and c.o ~= a.owner) then return say('missing', {known = c and true or false}) end
  local to = a.moves[c.s]
  if not to then return say('refused', {s = c.s}) end
  if (a.move == 'lose' and c.s ~= 'open' and c.s ~= 'released') or (a.move == 'release' and c.s == 'released')
     or (a.move == 'expire' and c.un > floor(now / 1000)) then
    return say('same', {c = c})
  end
  local told = c.h
  if to == 'settled' then told = {a.money or c.h[1], c.h[2], a.tokens or c.h[3]} end
  if to == 'released' then told = NONE end
  for _, gauge in ipairs(a.gauges) do correct(c, gauge, gauge.used) end
  local was_open = c.s == 'open'
  use(c.as, less(told, was_open and c.h or (counted(c.s) and c.ch or NONE)))
  local spent = less(counted(to) and told or NONE, counted(c.s) and c.ch or NONE)
  charge(c.ps, purses_of(c.ps), c.cal, spent, was_open and less(NONE, c.h) or NONE, was_open and -1 or 0)
  c.s, c.ch, c.v, c.en = to, told, c.v + 1, floor(now / 1000)
  keep_call(a.id, c)
  redis.call('ZREM', KEYS[3], a.id)
  redis.call('ZADD', KEYS[4], floor(now / 1000) + a.loose, a.id)
  return say('ended', {c = c})
end

local function reslot()
  local c = call_of(a.id)
  if not c or c.o ~= a.owner then return say('missing', {known = c and true or false}) end
  local found = {}
  for place, gauge in ipairs(a.gauges) do
    gauge.w = c.w[gauge.n] and c.w[gauge.n][1] or 0
    found[place] = meter_of(gauge)
  end
  local late = floor(now / 1000) - floor(c.sl / 1000)
  c.sl = common(a.gauges, found)
  reserve(a.gauges, found, c.sl, c.w)
  c.v = c.v + 1
  keep_call(a.id, c)
  if c.s ~= 'open' then redis.call('ZADD', KEYS[4], floor(now / 1000) + a.loose, a.id) end
  return say('moved', {c = c, late = late})
end

local function beat()
  local beaten, all = 0, redis.call('HGETALL', KEYS[2])
  for place = 1, #all, 2 do
    local c = cmsgpack.unpack(all[place + 1])
    if c.s == 'open' and c.o == a.owner then
      c.un = max(c.un, floor(now / 1000) + a.hold)
      keep_call(all[place], c)
      redis.call('ZADD', KEYS[3], c.un * 1000 + c.sq % 1000, all[place])
      beaten = beaten + 1
    end
  end
  return say('ok', {n = beaten})
end

local function due_at(id, c) redis.call('ZADD', KEYS[3], c.un * 1000 + c.sq % 1000, id) end

-- usual calls are not put among the due before the first of them is
local function find_due()
  if first == 0 or first > floor(now / 1000) then return end
  local all = redis.call('HGETALL', KEYS[2])
  for place = 1, #all, 2 do
    local c = cmsgpack.unpack(all[place + 1])
    if c.s == 'open' then due_at(all[place], c) end
  end
  first = 0
  keep_clock()
end

-- calls to look after: those of an owner, those whose hold has run out, those that nobody has written down
local function listed()
  local calls, ids = {}, nil
  if a.owner then
    local all = redis.call('HGETALL', KEYS[2])
    for place = 1, #all, 2 do
      local c = cmsgpack.unpack(all[place + 1])
      if c.o == a.owner and (c.s == 'open' or a.ended) then calls[#calls + 1] = {id = all[place], c = c} end
    end
    table.sort(calls, function(one, other) return one.c.sq < other.c.sq end)
    return say('calls', {calls = calls})
  end
  if a.which == 'due' then
    find_due()
    ids = redis.call('ZRANGEBYSCORE', KEYS[3], 0, floor(now / 1000) * 1000 + 999, 'LIMIT', 0, a.limit)
  else
    ids = redis.call('ZRANGEBYSCORE', KEYS[4], 0, floor(now / 1000), 'LIMIT', 0, a.limit)
  end
  for place, id in ipairs(ids) do calls[place] = {id = id, c = call_of(id)} end
  return say('calls', {calls = calls})
end

-- the ledger has these versions of these ended calls: a.calls = {id = {version, told}}. One that is open here came from the
-- ledger after a loss of memory, before its end was written there
local function recorded()
  for id, kept in pairs(a.calls) do
    local c, version, told = call_of(id), kept[1], kept[2]
    if c and c.s == 'open' and c.v < version then
      charge(c.ps, purses_of(c.ps), c.cal, told, less(NONE, c.h), -1)
      use(c.as, less(told, c.h))
      redis.call('HDEL', KEYS[2], id)
      redis.call('ZREM', KEYS[3], id)
    elseif c and c.v == version and c.s ~= 'open' then
      redis.call('HDEL', KEYS[2], id)
      redis.call('ZREM', KEYS[4], id)
    end
  end
  return say('ok')
end

-- the ledger knows a call that is not here any more
local function load()
  if not call_of(a.id) then
    keep_call(a.id, a.c)
    if a.c.s == 'open' then
      redis.call('ZADD', KEYS[3], a.c.un * 1000 + a.c.sq % 1000, a.id)
      charge(a.c.ps, purses_of(a.c.ps), a.c.cal, NONE, a.c.h, 1)
    else
      redis.call('ZADD', KEYS[4], floor(now / 1000) + a.loose, a.id)
    end
  end
  return say('ok')
end

-- the calls and meters that the ledger knows of: from here on calls are admitted
local function fill()
  if st.ready then return say('ok') end
  for name, meter in pairs(a.meters) do keep_meter(name, meter) end
  for _, each in ipairs(a.asides) do redis.call('HSET', KEYS[5], each.id, cmsgpack.pack(each)) end
  for _, call in ipairs(a.calls) do
    seq = seq + 1
    call.c.sq = seq
    keep_call(call.id, call.c)
    redis.call('ZADD', KEYS[3], call.c.un * 1000 + call.c.sq % 1000, call.id)
    charge(call.c.ps, purses_of(call.c.ps), call.c.cal, NONE, call.c.h, 1)
  end
  st.ready = true
  keep_state()
  return say('ok')
end

-- windows begin, or are looked at for the first time: with what the ledger has spent in them (a.known: its view of the
-- calls that are here) and what these calls hold and cost beside it
local function open()
  local all = redis.call('HGETALL', KEYS[2])
  for _, wanted in ipairs(a.windows) do
    local purse = purses_of({wanted.n})[wanted.n]
    if not purse.w[wanted.w] then
      local w = {wanted.from, wanted.to, wanted.spent, 0, 0, wanted.ceiling, wanted.d, wanted.beside[1], wanted.beside[2]}
      for place = 1, #all, 2 do
        local c, paid = cmsgpack.unpack(all[place + 1]), false
        for _, name in ipairs(c.ps) do paid = paid or name == wanted.n end
        if paid and w[1] <= c.cal and c.cal < w[2] then
          local known = a.known[all[place]]
          if known then w[3] = w[3] - known[w[7]] end
          if c.s == 'open' then w[4], w[5] = w[4] + c.h[w[7]], w[5] + 1 end
          if counted(c.s) then w[3] = w[3] + c.ch[w[7]] end
        end
      end
      purse.w[wanted.w], purse.absent = w, nil
      keep_purse(wanted.n, purse)
    end
  end
  return say('ok')
end

-- level: also downwards
local function raise(level)
  for _, wanted in ipairs(a.windows) do
    local purse = purses_of({wanted.n})[wanted.n]
    local w = purse.w[wanted.w]
    if w then
      w[6] = level and wanted.ceiling or max(w[6], wanted.ceiling)
      if wanted.beside then w[8], w[9] = wanted.beside[1], wanted.beside[2] end
      keep_purse(wanted.n, purse)
    end
  end
  return say('ok')
end

-- purses that nothing is asked of any more; the ledger opens them again
local function close()
  for _, name in ipairs(a.purses) do redis.call('HDEL', KEYS[1], '\0' .. name) end
  return say('ok')
end

-- what the state has decided about by itself comes to this by now
local function beside()
  local changed = false
  for _, wanted in ipairs(a.windows) do
    local purse = purses_of({wanted.n})[wanted.n]
    local w = purse.w[wanted.w]
    if w and ((w[8] or 0) ~= wanted.beside[1] or (w[9] or 0) ~= wanted.beside[2]) then
      changed, w[8], w[9] = true, wanted.beside[1], wanted.beside[2]
      keep_purse(wanted.n, purse)
    end
  end
  return say('ok', {changed = changed})
end

-- the state has decided about these calls, because nobody heard the answer from here: they were never admitted. What they
-- took of rates stays taken
local function disown()
  for _, id in ipairs(a.ids) do
    local c = call_of(id)
    if c then
      local is_open = c.s == 'open'
      charge(c.ps, purses_of(c.ps), c.cal, less(NONE, counted(c.s) and c.ch or NONE),
             is_open and less(NONE, c.h) or NONE, is_open and -1 or 0)
      use(c.as, less(NONE, is_open and c.h or (counted(c.s) and c.ch or NONE)))
      redis.call('HDEL', KEYS[2], id)
      redis.call('ZREM', KEYS[3], id)
      redis.call('ZREM', KEYS[4], id)
    end
  end
  return say('ok')
end

local function look()
  if a.asides then return say('look', {ids = redis.call('HKEYS', KEYS[5])}) end
  if a.ids then return say('look', {ids = redis.call('HKEYS', KEYS[2])}) end
  local meters, all = {}, redis.call('HGETALL', KEYS[1])
  for place = 1, #all, 2 do
    local name = all[place]
    if name ~= '' and name ~= '#' and name:byte() ~= 0 then
      local meter = {cmsgpack.unpack(all[place + 1])}
      if not meter[4] then meters[name] = meter end
    end
  end
  return say('look', {meters = meters})
end

-- gates that have moved (their meters' totals grow with every move), and meters that give no slot before an instant; all by
-- the fleet's clock, of which a.fleet is the present instant
local function bar()
  local shift = a.now and 0 or a.fleet - now
  for name, wanted in pairs(a.meters) do
    local found = redis.call('HGET', KEYS[1], name)
    if not found or select(3, cmsgpack.unpack(found)) < wanted[3] then
      keep_meter(name, {wanted[1] - shift, 0, wanted[3]})
    end
  end
  for name, free in pairs(a.slowed) do
    local found = redis.call('HGET', KEYS[1], name)
    local meter = found and {cmsgpack.unpack(found)} or {0, 0, 0, 1}
    meter[1] = max(meter[1], free - shift)
    keep_meter(name, meter)
  end
  return say('ok')
end

if op == 'admit' then return admit() end
if op == 'aside' then return set_aside() end
if op == 'drop' then return drop() end
if op == 'bar' then return bar() end
if op == 'end' then return finish() end
if op == 'reslot' then return reslot() end
if op == 'beat' then return beat() end
if op == 'list' then return listed() end
if op == 'recorded' then return recorded() end
if op == 'fill' then return fill() end
if op == 'load' then return load() end
if op == 'open' then return open() end
if op == 'raise' then return raise(false) end
if op == 'level' then return raise(true) end
if op == 'close' then return close() end
if op == 'beside' then return beside() end
if op == 'disown' then return disown() end
if op == 'look' then return look() end
if op == 'rules' then
  st.rules = max(st.rules, a.rules)
  keep_state()
  return say('ok')
end
if op == 'adjust' then
  charge(a.ps, purses_of(a.ps), a.cal, a.spent, NONE, 0)
  use(a.as, a.spent)
  return say('ok')
end
return redis.error_reply('no such operation: ' .. op)
