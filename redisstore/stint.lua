-- The counting half of stint on Redis: decides the requests of one group.
--
-- KEYS     the values that the requests touch, then their logs, leases and
--          settled tickets.
-- ARGV[1]  how many of KEYS are values.
-- ARGV[2]  the group, a flat MessagePack array, read from left to right:
--            the instant to decide at, or 0 for the server's own clock;
--            1 if there are requests other than takes and peeks;
--            the number of limits, and each as
--              id, algorithm, 1 if refusals count, number, window, capacity,
--              and the capacity of the whole limit if it is reduced by a scale,
--              where slots have their lease and the length of their queue in
--              the places of window and capacity,
--              and for a quota five instants in a row at which its periods begin,
--              for a lock-out the number of its blocks, and how long they are;
--            the number of requests, and each as its kind and what follows:
--              1 take, 2 peek:  the number of charges, and each as
--                               value, limit, units, and
--                               log if it has one, or leases, ticket if it is
--                               of slots (a peek's ticket is zeros); leases may
--                               be 0 unless the answer is that they are needed
--              3 settle:        settled, ticket, the number of charges, and each
--                               as value, limit, log or leases, taken, total,
--                               and the receipt's at, a, b
--              4 reset:         the number of charges, and each as
--                               value, limit, log or leases
--              5 renew:         the number of charges, and each as
--                               value, limit, leases, ticket
--              6 usage:         the number of charges, and each as value, limit
--              7 set usage:     value, limit, used
--            Value, log, leases and settled are indexes into KEYS (or 0: there
--            is none), limit is one into the limits, and a ticket is three
--            numbers: its first 6 bytes, the next 6, and the last 4. A request
--            names a state once at most, but for renewals.
-- Returns  packed doubles: the instant, and for each request its status, which
--          is 1 allowed or done, 2 queued, 3 refused, 5 a key holds something
--          that is not stint's, 7 the keys of its leases are needed: it did not run.
--          A take that is allowed or queued has for each charge
--            at - instant, a, b
--          of the state that it left, and a refused one or a peek
--            verdict, at - instant, a, b, until - at.
--          For a log a, b and c are the numbers that package policy reports it
--          by: b and c, less the instant, take the places of b and until - at.
--          For slots a is how many are held and b how many wait, or less the
--          place in the queue of a take that is queued; a renewal has
--            verdict, at - instant, a, b, the first end of a lease - instant
--          where b is its place, if it waits, and the verdict may be 5.
--          Usage has for each charge
--            at - instant, a, b, c
--          of its quota as of the instant, b being 0 where there is no state. A
--          request of status 6 did not run: the instants that came with a quota do
--          not tell its periods. It has for each charge the instant to tell of,
--          less the one decided at.
--
-- A value holds all fixed-size states of one key, and a few leases of slots: the
-- format's mark, then for each state, in packed doubles, its id, at, until - at,
-- a, b. A quota's c, where it is not zero, is the a of a record of its own, under
-- an id half a unit higher: it changes where a period turns, and other takes do
-- without it. So it is with a lock-out's c, which lives as long as its state. What
-- these mean is package policy's to say, but for slots, of which
-- more below: each function here is the twin of one there and equals it to the
-- unit and to the microsecond. Numbers are doubles, exact below 2^53; muldiv is
-- exact beyond.
--
-- script.go puts the constants below, whose names are in capitals, in their places.
-- The server makes each function of the text anew for each group, which takes time,
-- and the more the more locals of the script it uses: hence what only some groups
-- need is made only for them.
--
-- Values are written last, when everything is decided: an error on the way, or
-- a server that refuses writes, leaves them as they were.

local MARK = 'S\1'                      -- of stint, and of this layout's version
local BUCKET, WINDOW, LOG, FIXED, SLOTS, QUOTA, LOCKOUT = 1, 2, 3, 4, 5, 6, 7
local TAKE, PEEK, SETTLE, RESET, RENEW, USAGE, SETUSAGE = 1, 2, 3, 4, 5, 6, 7
local ALLOWED, QUEUED, REFUSED, NEVER = 1, 2, 3, 4 -- verdicts; the first three are statuses too
local FOREIGN = 5
local PERIODS = 6
local UNKEYED = 7
local EXACT = 9007199254740992          -- 2^53
local MAX_INSTANT = 4503599627370496    -- 2^52
local MAX_USED = 1125899906842624       -- 2^50
local GRACE = 1000000                   -- a state outlives its use by a second
local MAX_STATES = 1064                 -- of one key: Lua's stack holds them all
local ROOM = 5 * 128                    -- what a request makes at most: 128 states
local FULL = 5 * MAX_STATES - ROOM + 2  -- no request begins a state from here on
local TICKET = 70                       -- seconds: a ticket counts once in a minute
local CHUNK = 32                        -- entries of a log or of a queue read at once
local PAIRS = 500                       -- members written, or looked up, at once
local SMALL = 16                        -- leases of a limit that the value holds itself
local WAITS = 4503599627370496          -- 2^52: beyond every id
local BIG = 1099511627776               -- 2^40: the leases are a set
local HELD = 1048576                    -- 2^20: in which, so many times how many wait
local PART = 4294967296                 -- 2^32: the last part of a ticket is below
local TICK = 10000                      -- microseconds, of which leases are mostly a multiple
local FIRST = -MAX_INSTANT              -- the first number in a queue
local SPAN = 2000000                    -- expiries are set this far ahead

local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min
local call = redis.call

-- The formats of values, by how many packed doubles are behind the mark.
local formats = { [5] = '<c2ddddd', [10] = '<c2dddddddddd', [15] = '<c2ddddddddddddddd' }

local q = cmsgpack.unpack(ARGV[2])
local now, still = q[1], 0
if now == 0 then
  local t = call('TIME')
  now = t[1] * 1000000 + t[2]
else
  still = 600 -- seconds: under a clock that is set, real time must not expire keys
end

-- muldiv returns the quotient and the remainder of a*b/c. The quotient is exact
-- if it is below 2^53; c is below 2^45. Takes do the short case where they stand,
-- and write floor(x) as x - x % 1: calls are what they would spend their time on.
local function muldiv(a, b, c)
  local product = a * b
  if product < EXACT then
    local quo = floor(product / c)
    return quo, product - quo * c
  end
  local whole = floor(a / c)
  a, whole = a - whole * c, whole * b
  -- Long division over the digits of b in base 128: the remainder times 128
  -- and a times a digit stay below 2^53 together.
  local digit = 1
  while digit * 128 <= b do digit = digit * 128 end
  local quo, rem = 0, 0
  while digit >= 1 do
    local d = floor(b / digit)
    b = b - d * digit
    local t = rem * 128 + a * d
    local k = floor(t / c)
    quo, rem = quo * 128 + k, t - k * c
    digit = digit / 128
  end
  return whole + quo, rem
end

-- Values, by index into KEYS, as flat arrays behind their mark. One that is not
-- stint's is false. Of those that were read: how many numbers they had, and the span
-- in which the last of their states ends.
local values, dirty = {}, {}
local sizes, spans = {}, {}

-- Where the state of id begins in v, or would if it were added.
local function find(v, id)
  local o = 2
  local other = v[o]
  while other and other ~= id do
    o = o + 5
    other = v[o]
  end
  return o
end

-- When what id counts ends: its state or, where it has none, its last lease.
local function ending(v, id)
  local last = 0
  for o = 2, #v, 5 do
    local other = v[o]
    if other == id then return v[o + 1] + v[o + 2] end
    if other == -id then last = max(last, v[o + 1] + v[o + 2]) end
  end
  return last
end

-- Drops the states of v that no longer matter, and with them their leases: whose
-- end alone drops them not, since only their limit's transitions do. Returns how
-- many numbers are left then, and the end of the last state.
local function trim(v)
  local size, n, last, dead = #v, 1, 0, now - GRACE
  local owner, owned -- of the last lease that ended: its state's id, and when that ends
  for o = 2, size, 5 do
    local ends = v[o + 1] + v[o + 2]
    if ends <= dead and v[o] < 0 then
      local id = -v[o]
      if id > WAITS then id = id - WAITS end
      if id ~= owner then owner, owned = id, ending(v, id) end -- it is mostly the one before
      ends = owned
    end
    if ends > dead then
      if ends > last then last = ends end
      if n + 1 < o then
        for i = 0, 4 do v[n + 1 + i] = v[o + i] end
      end
      n = n + 5
    end
  end
  for i = size, n + 1, -1 do v[i] = nil end
  return n - 1, last
end

local nvalues = tonumber(ARGV[1])
local parse = struct.unpack
local missing = {} -- keys that MGET has nothing of
for first = 1, nvalues, 1000 do
  local last = min(first + 999, nvalues)
  local raws = call('MGET', unpack(KEYS, first, last))
  for i = first, last do
    local raw, v = raws[i - first + 1], false
    if raw then
      local n = (#raw - 2) / 8
      local f = formats[n]
      if not f and n >= 0 and n % 5 == 0 and n <= 5 * MAX_STATES then
        f = '<c2' .. string.rep('d', n)
        formats[n] = f
      end
      if f then
        v = { parse(f, raw) }
        v[n + 2] = nil -- where the next one would begin
        -- Numbers that are not such as the script writes, since somebody else has
        -- changed a byte, would spoil what is computed with them, and raise an error
        -- when that is written.
        local sound, last = v[1] == MARK, 0
        for o = 2, n, 5 do
          local at, left, a, b = v[o + 1], v[o + 2], v[o + 3], v[o + 4]
          local ends = at + left
          if ends > last then last = ends end
          if not (ends >= 0 and ends <= EXACT and left >= 0 and left <= EXACT and a >= 0 and a <= MAX_INSTANT and b >= 0 and b <= MAX_INSTANT)
            or at % 1 + left % 1 + a % 1 + b % 1 > 0 then sound = false break end
        end
        sizes[i], spans[i] = n, last - last % SPAN
        if not sound then
          v = false
        elseif n >= FULL - 2 then
          trim(v)
        end
      end
    else -- with room for three states
      v = { MARK, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil }
      missing[#missing + 1] = i
    end
    values[i] = v
  end
end

-- They are absent, or of a type that MGET passes over. Mostly all are absent.
if missing[1] then
  local absent = {}
  for i = 1, min(#missing, 1000) do absent[i] = KEYS[missing[i]] end
  if #missing > 1000 or call('EXISTS', unpack(absent)) > 0 then
    for _, i in ipairs(missing) do
      if call('EXISTS', KEYS[i]) > 0 then values[i] = false end
    end
  end
end

-- Limits, by index.
local cursor = 4
local IDS, ALGS, COUNTS, NS, WS, CAPS, MOST = {}, {}, {}, {}, {}, {}, {}
local PERIOD = {} -- of quotas: where in q their instants begin
local BLOCKS = {} -- of lock-outs: where in q the number of their blocks is
local TICKS = {} -- of slots: what their leases have beside the ticket's part
local has = {} -- the algorithms of which there are limits
for i = 1, q[3] do
  IDS[i], ALGS[i], COUNTS[i] = q[cursor], q[cursor + 1], q[cursor + 2] == 1
  NS[i], WS[i], CAPS[i] = q[cursor + 3], q[cursor + 4], q[cursor + 5]
  has[ALGS[i]] = true
  MOST[i] = q[cursor + 6] -- units that may wait until nothing is used
  cursor = cursor + 7
  if ALGS[i] == QUOTA then
    PERIOD[i] = cursor
    cursor = cursor + 5
  elseif ALGS[i] == LOCKOUT then
    BLOCKS[i] = cursor
    cursor = cursor + 1 + q[cursor]
  elseif ALGS[i] == SLOTS then
    TICKS[i] = WS[i] % TICK == 0 and WS[i] / TICK * PART or 0
  end
end

-- The two numbers a + b/w - (c + d/w), or zero if that is negative.
local function subtract(a, b, c, d, w)
  a, b = a - c, b - d
  if b < 0 then a, b = a - 1, b + w end
  if a < 0 then return 0, 0 end
  return a, b
end

-- How long until a bucket has drained.
local function draining(at, a, b, n, w)
  local product = a * w
  local quo, rem
  if product < EXACT then
    quo = product / n
    quo = quo - quo % 1
    rem = product - quo * n
  elseif product >= n * MAX_INSTANT then
    return MAX_INSTANT - at
  else
    quo, rem = muldiv(a, w, n)
  end
  rem = (rem + b + n - 1) / n
  quo = quo + (rem - rem % 1)
  if quo > MAX_INSTANT - at then return MAX_INSTANT - at end
  return quo
end

-- Reads the state at offset o of v, if there is one, as of the instant t or of
-- its own if that is later. Returns that instant, a, b, and what counts.
local function read(v, o, t, alg, n, w)
  local at = v[o + 1]
  if not at then return t, 0, 0, 0 end
  if at > t then t = at end
  if t >= at + v[o + 2] then return t, 0, 0, 0 end
  local a, b = v[o + 3], v[o + 4]
  if alg == BUCKET then
    if t > at then
      local product = (t - at) * n
      if product < EXACT then
        local units = product / w
        units = units - units % 1
        a, b = a - units, b - product + units * w
        if b < 0 then a, b = a - 1, b + w end
        if a < 0 then return t, 0, 0, 0 end
      else
        local units, frac = muldiv(t - at, n, w)
        a, b = subtract(a, b, units, frac, w)
      end
    end
    return t, a, b, b > 0 and a + 1 or a
  end
  local e = t % w
  if t - e > at then -- another window
    if alg == WINDOW and t - e - w <= at then a, b = 0, a else a, b = 0, 0 end
  end
  if b == 0 then return t, a, b, a end
  local product = b * (w - e)
  if product < EXACT then return t, a, b, a + ceil(product / w) end
  local quo, rem = muldiv(b, w - e, w)
  return t, a, b, a + (rem > 0 and quo + 1 or quo)
end

local function store(k, o, id, at, left, a, b)
  local v = values[k]
  v[o], v[o + 1], v[o + 2], v[o + 3], v[o + 4] = id, at, left, a, b
  dirty[k] = true
end

local after, period, previous, storeprevious, storequota
if has[QUOTA] then
  -- The first of a quota's instants after t, or nil if they do not tell.
  function after(l, t)
    local p = PERIOD[l]
    if t < q[p] then return nil end
    for i = p + 1, p + 4 do
      if t < q[i] then return q[i] end
    end
  end

  -- Reads the quota l at offset o of v, as read does. Returns that instant, a, b,
  -- the end of the period after b, and the previous period's count if it is not
  -- written as that yet. The ends are nil where the instants do not tell.
  function period(v, o, t, l)
    local at = v[o + 1]
    if at then
      if at > t then t = at end
      local ends = at + v[o + 2]
      if t < ends then
        local a, b = v[o + 3], v[o + 4]
        if t >= b then return t, 0, ends, after(l, ends), a end
        return t, a, b, a > 0 and ends or after(l, b)
      end
    end
    local b = after(l, t)
    return t, 0, b, b and after(l, b)
  end

  -- The previous period's count of a quota, as it is written.
  function previous(v, l, t)
    local o = find(v, IDS[l] + 0.5)
    return v[o] and t < v[o + 1] + v[o + 2] and v[o + 3] or 0
  end

  -- Stores the count of the period before that of a quota which ends at b. A key
  -- with hundreds of quotas may have no room for it, and goes on without.
  function storeprevious(k, l, t, b, c)
    local v, id = values[k], IDS[l] + 0.5
    local o = find(v, id)
    if v[o] or c > 0 and o < FULL + 5 * 64 then store(k, o, id, t, c > 0 and b - t or 0, c, 0) end
  end

  -- Stores a quota, both of its records.
  function storequota(k, l, t, a, b, next, c)
    local v, id = values[k], IDS[l]
    store(k, find(v, id), id, t, (a > 0 and next or c > 0 and b or t) - t, a, b)
    storeprevious(k, l, t, b, c)
  end
end

local lockout, taketry, settlelockout
if has[LOCKOUT] then
  local FAILURE = 1048576 -- 2^20: in a, one failure
  local LEVELS = 16       -- in c, one second

  -- Reads a lock-out at offset o of v, as read does. Returns the instant, a, b and
  -- how many tries there are, which of a blocked key is nil.
  function lockout(v, o, t)
    local at = v[o + 1]
    if not at then return t, 0, 0, 0 end
    if at > t then t = at end
    if t >= at + v[o + 2] or t >= v[o + 4] then return t, 0, 0, 0 end
    local a = v[o + 3]
    return t, a, v[o + 4], a > 0 and a % FAILURE or nil
  end

  -- How long it takes until a past block is forgotten.
  local function memory(l)
    local p = BLOCKS[l]
    return max(WS[l], q[p + q[p]])
  end

  -- What there is to remember of past blocks.
  local function remembered(v, l, t)
    local o = find(v, IDS[l] + 0.5)
    return v[o] and t < v[o + 1] + v[o + 2] and v[o + 3] or 0
  end

  -- Returns how long a state matters that ends at b, and stores what it remembers
  -- for as long.
  local function storememory(k, l, t, b, c)
    local v, id, ends, level = values[k], IDS[l] + 0.5, max(t, b), c % LEVELS
    if level > 0 then ends = max(ends, floor(c / LEVELS) * 1000000 + level * memory(l)) end
    local left = min(ends, MAX_INSTANT) - t
    local o = find(v, id)
    if v[o] or c > 0 and o < FULL + 5 * 64 then store(k, o, id, t, c > 0 and left or 0, c, 0) end
    return left
  end

  -- Returns the window's end once there are tries at the instant t, and how long the
  -- state matters then.
  function taketry(k, l, t, b)
    if b == 0 then b = t + WS[l] end
    return b, storememory(k, l, t, b, remembered(values[k], l, t))
  end

  -- Settles a lock-out: of the units taken at the instant, so many have failed.
  function settlelockout(k, l, taken, failed, instant)
    local v, n, w, id = values[k], NS[l], WS[l], IDS[l]
    local t, a, b, tries = lockout(v, find(v, id), max(now, instant))
    local held = taken > 0 and a > 0 and instant >= b - w
    if not tries or failed == 0 and not held then return end
    local c, failures = remembered(v, l, t), floor(a / FAILURE)
    if held then tries = max(failures, tries - taken) end
    failed = min(failed, n)
    tries, failures = tries + failed, failures + failed
    if failed > 0 and failures >= n then
      local p, level, fades = BLOCKS[l], c % LEVELS, floor(c / LEVELS) * 1000000
      local last = q[p] - 1
      if t > fades then level = max(0, level - floor((t - fades) / memory(l))) end
      local length = q[p + 1 + min(level, last)]
      local longer = floor(t % 1048576 * 40503 / 64) % 1024
      a, b, c = 0, t + length + floor(floor(length / 32) * longer / 1024), 0
      level = min(level + 1, last)
      if level > 0 then c = level + floor((b + 999999) / 1000000) * LEVELS end
    elseif tries == 0 then
      a, b = 0, 0
    else
      if a == 0 then b = t + w end
      a = tries + failures * FAILURE
    end
    local left = storememory(k, l, t, b, c)
    store(k, find(v, id), id, t, left, a, b)
  end
end

-- Logs. The entries of a log, each an instant and units packed as doubles, are
-- a list; the value has their sum. An open log is read from its head as far as
-- needed, and written when the group is decided: `gone` entries leave, and what
-- the group added at instant t, `add`, becomes one new entry.
local logs = {}
local open, free, book, write, settlelog
if has[LOG] then
  -- What an entry says: its instant and units, or nil if it is not stint's.
  local function said(raw)
    if #raw ~= 16 then return nil end
    local at, units = struct.unpack('<dd', raw)
    if at >= 0 and at <= MAX_INSTANT and units >= 0 and units <= EXACT and at % 1 + units % 1 == 0 then return at, units end
  end

  local function entry(log, i) -- the i-th entry of the list: its instant and units
    while #log.at < i do
      local raws = call('LRANGE', log.key, #log.at, #log.at + CHUNK - 1)
      if #raws == 0 then return nil end
      for _, raw in ipairs(raws) do
        local at, units = said(raw)
        if not at then return nil end -- not stint's: the log ends there
        log.at[#log.at + 1], log.units[#log.units + 1] = at, units
      end
    end
    return log.at[i], log.units[i]
  end

  -- Opens a log as of the instant t. Returns nil if its key holds something else,
  -- or if there is no room for its state.
  function open(logkey, k, l, t)
    local log = logs[logkey]
    if log then return log end
    local kind = call('TYPE', KEYS[logkey]).ok
    if kind ~= 'list' and kind ~= 'none' then return nil end
    local o = find(values[k], IDS[l])
    if o >= FULL and not values[k][o] then return nil end
    log = { key = KEYS[logkey], k = k, l = l, t = t, used = 0, gone = 0, add = 0, at = {}, units = {} }
    logs[logkey] = log
    local v = values[k]
    local at = v[o + 1]
    if at then log.t = max(t, at) end
    if at and log.t < at + v[o + 2] then
      log.used = v[o + 3]
    else
      log.dead = true -- whatever the list holds counts no more
    end
    while not log.dead do
      local at, units = entry(log, log.gone + 1)
      if not at then -- the list was lost, or all of it given back
        log.used, log.dead = 0, true
      elseif at > log.t - WS[l] then
        break
      else
        log.used, log.gone = max(0, log.used - units), log.gone + 1
      end
    end
    if log.used == 0 then log.dead = true end -- an entry of no units may be left
    return log
  end

  -- The instant from which at most room units count.
  function free(log, room)
    local left, i, w = log.used, log.gone, WS[log.l]
    while left > room do
      i = i + 1
      local at, units
      if not log.dead then at, units = entry(log, i) end
      if not at then return log.t + w end -- what this group added
      left = left - units
      if left <= room then return at + w end
    end
    return log.t
  end

  -- Writes an open log's sum to its value.
  function book(log)
    if not log.changed or log.reset and log.add == 0 then return end
    local v = values[log.k]
    local o = find(v, IDS[log.l])
    local left = v[o] and v[o + 1] + v[o + 2] - log.t or 0
    if log.add > 0 then left = WS[log.l] end
    log.left = max(left, 0)
    store(log.k, o, IDS[log.l], log.t, log.left, log.used, 0)
  end

  -- Writes an open log to its list. What is new goes first: a key that vanished in
  -- between could not be written again while its slot moves to another node.
  function write(log)
    if not log.changed then return end
    if log.add > 0 then call('RPUSH', log.key, struct.pack('<dd', log.t, log.add)) end
    if log.dead and log.add > 0 then
      call('LTRIM', log.key, -1, -1)
    elseif log.dead then
      call('DEL', log.key)
    elseif log.gone > 0 then
      call('LTRIM', log.key, log.gone, -1)
    end
    if log.left > 0 then call('EXPIRE', log.key, floor((log.left + GRACE) / 1000000) + 1 + still) end
  end

  -- Settles a list in place: delta units for the entry of the instant, or for the
  -- next later one, or for a new one.
  function settlelog(logkey, k, l, delta, instant)
    local log, w = logs[logkey], WS[l]
    if log then -- its clock may have to move on
      book(log)
      write(log)
      logs[logkey] = nil
    end
    log = open(logkey, k, l, max(now, instant))
    if not log or instant <= log.t - w then return end
    log.changed, log.reset = true, nil
    book(log)
    local key, t, sum, left = log.key, log.t, log.used, log.left
    local o = find(values[k], IDS[l])
    if log.dead then
      if delta > 0 then
        sum, left = min(delta, MAX_USED), instant + w - t
        call('RPUSH', key, struct.pack('<dd', instant, sum))
        call('LTRIM', key, -1, -1)
        call('EXPIRE', key, floor((left + GRACE) / 1000000) + 1 + still)
      end
      logs[logkey] = nil
      store(k, o, IDS[l], t, left, sum, 0)
      return
    end
    write(log)
    logs[logkey] = nil
    local n = call('LLEN', key)
    local i, low = n, n -- entries i+1, ... are at the instant or later
    local at, units, raws = {}, {}, nil
    while i > 0 do
      if i == low then
        low = max(0, i - 128)
        raws = call('LRANGE', key, low, i - 1)
      end
      local raw = raws[i - low]
      local eat, eunits = said(raw)
      if not eat or eat < instant then break end
      at[i], units[i] = eat, eunits
      i = i - 1
    end
    if delta > 0 then
      delta = min(delta, MAX_USED - sum)
      sum = sum + delta
      if at[i + 1] then
        call('LSET', key, i, struct.pack('<dd', at[i + 1], units[i + 1] + delta))
      else
        call('RPUSH', key, struct.pack('<dd', instant, delta))
        left = instant + w - t
        call('EXPIRE', key, floor((left + GRACE) / 1000000) + 1 + still)
      end
    else
      local emptied = 0
      while at[i + 1] == instant and delta < 0 do
        local back = min(-delta, units[i + 1])
        delta, sum = delta + back, sum - back
        if back < units[i + 1] or emptied + 1 == n then -- a list must not vanish
          call('LSET', key, i, struct.pack('<dd', instant, units[i + 1] - back))
        else
          call('LSET', key, i, '')
          emptied = emptied + 1
        end
        i = i + 1
      end
      if emptied > 0 then call('LREM', key, -emptied, '') end
    end
    store(k, o, IDS[l], t, left, sum, 0)
  end
end

-- Slots. The leases of a concurrency limit are of two kinds of home. A few are
-- records of the value themselves, behind each other in the order of arrival:
--
--   -id or, of one who waits, -id - WAITS; end - rest; rest; part; part
--
-- where the rest is the ticket's last part + PART * the length of the lease in ticks,
-- or 0 if it has not a whole number of them. One that has ended counts no more, and
-- another may take its place.
--
-- Where what happened last gave or renewed a lease there may be no state beside the
-- leases: its instant is when the last of them began. So most limits are one record:
-- a lease while there is one, and a state when it has left.
--
-- When leases are more than SMALL they move, until there are none left, to a sorted
-- set. In it are the tickets of all who hold
-- a slot or wait for one, by the instant at which their lease ends. Those who wait
-- are in it twice, the second time with QUEUE behind the ticket, by their number in
-- the order of arrival, which is negative: so the queue comes first, and a member's
-- rank is its place. The limit's own state has BIG + how many hold + HELD * how many wait for
-- a, then, and an instant before which no lease ends for b; and zeros before.
--
-- What a group does to a set is noted beside it: `ends` has the leases that were
-- changed, or false where they are gone. It is written when the group is decided.
local QUEUE = 'q'
local PARTS = '>I6I6I4'                 -- of a ticket: what is exact in a double, and room for an end
local slots = {}
local opened = {} -- by value: whether some of its leases are open

-- A ticket of which the request has the parts.
local function ticketat(c) return struct.pack(PARTS, q[c], q[c + 1], q[c + 2]) end

-- What is done with leases that have to be opened: most need not.
local leases, makeleases, began
if has[SLOTS] then
  -- When a lease in the value began that ends then, or 0 if it does not tell.
  function began(ends, rest)
    local ticks = rest - rest % PART
    return ticks > 0 and ends - ticks * (TICK / PART) or 0
  end

  function makeleases()
    local texts = {}

    local function text(n) -- instants of a group are mostly the same few
      local s = texts[n]
      if not s then
        s = string.format('%.0f', n)
        texts[n] = s
      end
      return s
    end

    -- Where the ticket's lease is in the value, if it is there and has not ended.
    local function seek(s, ticket)
      local v, t, holds, waits = s.v, s.t, s.holds, s.waits
      local a, b, part = struct.unpack(PARTS, ticket)
      for o = 2, #v, 5 do
        if v[o + 3] == a and v[o + 4] == b and v[o + 2] % PART == part and
          (v[o] == holds or v[o] == waits) and v[o + 1] + v[o + 2] > t then return o end
      end
      return false
    end

    -- Ends a lease in the value. It is dropped when the value is written.
    local function kill(v, o)
      v[o], v[o + 1] = -1, -v[o + 2]
    end

    -- Notes what happens to the queue of a set: `turn` has the numbers that were
    -- changed. Of the set's own queue, of `length`, `out` has the numbers that are
    -- gone, and `next` ranks were looked at; `new` has the tickets that came, the
    -- first with the number `first`, of which `newnext` were looked at.
    local function line(s)
      local q = s.line
      if not q then
        q = { turn = {}, out = {}, new = {}, length = s.queued, first = FIRST, next = 0, newnext = 0, head = false }
        if q.length > 0 then
          q.first = call('ZRANGE', s.key, q.length - 1, q.length - 1, 'WITHSCORES')[2] + 1
        end
        s.line = q
      end
      return q
    end

    -- The ticket's lease: false if it has none.
    local function lease(s, ticket)
      if not s.big then return seek(s, ticket) end
      local ends = s.ends[ticket]
      if ends ~= nil then return ends end
      return s.live and call('ZSCORE', s.key, ticket)
    end

    -- The ticket's number in the queue, or false. What is in the value is in order.
    local function number(s, ticket)
      if not s.big then
        local o = seek(s, ticket)
        return o and s.v[o] == s.waits and o
      end
      local q = s.line
      if not q then return false end
      local turn = q.turn[ticket]
      if turn ~= nil then return turn end
      if q.length == 0 then return false end
      return tonumber(call('ZSCORE', s.key, ticket .. QUEUE) or nil) or false
    end

    local function enqueue(q, ticket)
      q.new[#q.new + 1] = ticket
      q.turn[ticket] = q.first + #q.new - 1
    end

    local function dequeue(s, ticket, turn)
      s.waiting = s.waiting - 1
      local q = s.line
      if not s.big then return end
      q.turn[ticket] = false
      if turn < q.first then q.out[#q.out + 1] = turn end
    end

    -- The place of a number in the queue, 1 being the next.
    local function place(s, ticket, turn)
      if not s.big then
        local v, rank = s.v, 0
        for o = 2, turn, 5 do
          if v[o] == s.waits and v[o + 1] + v[o + 2] > s.t then rank = rank + 1 end
        end
        return rank
      end
      local q = s.line
      if turn < q.first then
        local rank = call('ZRANK', s.key, ticket .. QUEUE) + 1
        for _, other in ipairs(q.out) do
          if other < turn then rank = rank - 1 end
        end
        return rank
      end
      local behind = 0
      for i = turn - q.first + 2, #q.new do
        if q.turn[q.new[i]] == q.first + i - 1 then behind = behind + 1 end
      end
      return s.waiting - behind
    end

    -- The ticket that is next in the queue, and its number.
    local function head(s)
      if not s.big then
        local v = s.v
        for o = 2, #v, 5 do
          if v[o] == s.waits and v[o + 1] + v[o + 2] > s.t then
            v[o] = s.holds
            return struct.pack(PARTS, v[o + 3], v[o + 4], v[o + 2] % PART), o
          end
        end
      end
      local q = s.line
      while true do
        local ticket, turn
        if q.next < q.length then
          local i = 2 * (q.next % CHUNK) + 1
          if i == 1 then q.head = call('ZRANGE', s.key, q.next, min(q.next + CHUNK, q.length) - 1, 'WITHSCORES') end
          q.next = q.next + 1
          ticket, turn = string.sub(q.head[i], 1, -1 - #QUEUE), tonumber(q.head[i + 1])
          if q.turn[ticket] == nil then return ticket, turn end -- else it left, and may have come again
        else
          q.newnext = q.newnext + 1
          ticket, turn = q.new[q.newnext], q.first + q.newnext - 1
          if q.turn[ticket] == turn then return ticket, turn end
        end
      end
    end

    -- Lets those who wait have the slots that are free of n.
    local function grant(s, n)
      while s.held < n and s.waiting > 0 do
        local ticket, turn = head(s)
        dequeue(s, ticket, turn)
        s.held, s.changed, s.granted = s.held + 1, true, s.granted or {}
        s.granted[#s.granted + 1] = ticket
      end
    end

    -- Drops the leases of a set that have ended.
    local function expire(s)
      local t = text(s.t)
      local dead = call('ZRANGEBYSCORE', s.key, 0, t)
      for first = 1, #dead, PAIRS do
        local last = min(first + PAIRS - 1, #dead)
        local turns
        if s.line then
          local members = {}
          for i = first, last do members[i - first + 1] = dead[i] .. QUEUE end
          turns = call('ZMSCORE', s.key, unpack(members))
        end
        for i = first, last do
          s.ends[dead[i]] = false
          local turn = turns and turns[i - first + 1]
          if turn then dequeue(s, dead[i], tonumber(turn)) else s.held = s.held - 1 end
        end
      end
      local left = call('ZRANGEBYSCORE', s.key, '(' .. t, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
      s.b = floor(min(tonumber(left[2]) or MAX_INSTANT, MAX_INSTANT))
    end

    -- Opens the set of leases. Returns false if its key holds something else.
    local function openset(s)
      s.card = s.card or redis.pcall('ZCARD', s.key)
      return type(s.card) == 'number'
    end

    -- Opens leases. Returns nil if their key holds something else, or if there is no
    -- room for their state.
    local function open(g, k, l)
      local s = slots[g]
      if s then return s end
      local v, id, t, last = values[k], IDS[l], now, 0
      local o = find(v, id)
      local at = v[o + 1]
      if at then
        last = at + v[o + 2]
      else -- leases alone may tell
        for i = 2, #v, 5 do
          if v[i] == -id then
            local ends = v[i + 1] + v[i + 2]
            at, last = max(at or 0, began(ends, v[i + 2])), max(last, ends)
          end
        end
      end
      if not at and o >= FULL then return nil end
      s = {
        key = KEYS[g], k = k, v = v, id = id, t = t, held = 0, waiting = 0, b = MAX_INSTANT, last = 0, before = 0,
        holds = -id, waits = -id - WAITS, queued = 0, big = false, changed = false, reset = false,
      }
      if at then
        if at > t then t = at end
        s.t = t
      end
      if t < last then
        s.last, s.before, s.alive = last, last, true
        local a = v[o + 3] or 0
        if a >= BIG then
          s.waiting = floor((a - BIG) / HELD)
          s.held = a - BIG - HELD * s.waiting
          s.b, s.big, s.ends = v[o + 4], true, {}
          if not openset(s) then return nil end
          -- A set that was lost, or is not the one that the value knows, counts no more.
          s.live = s.card == s.held + 2 * s.waiting
          if not s.live then s.held, s.waiting, s.last = 0, 0, 0 end
          s.queued = s.waiting
          if s.waiting > 0 then line(s) end
          if s.live and t >= s.b then expire(s) end
        else
          local holds, waits, held, waiting, b = s.holds, s.waits, 0, 0, MAX_INSTANT
          for i = 2, #v, 5 do
            local whose = v[i]
            if whose == holds or whose == waits then
              local ends = v[i + 1] + v[i + 2]
              if ends > t then
                if whose == holds then held = held + 1 else waiting = waiting + 1 end
                if ends < b then b = ends end
              end
            end
          end
          s.held, s.waiting, s.b = held, waiting, b
        end
      end
      slots[g], opened[k] = s, true
      return s
    end

    -- Whether one more lease needs a set, once the value has so many numbers more.
    local function crowded(s, more)
      return not s.big and (s.held + s.waiting >= SMALL or #s.v + more >= FULL)
    end

    -- Moves the leases from the value to a set.
    local function move(s)
      local v, q = s.v, nil
      s.big, s.live, s.ends = true, false, {}
      for o = 2, #v, 5 do
        local whose = v[o]
        if whose == s.holds or whose == s.waits then
          local ends = v[o + 1] + v[o + 2]
          if ends > s.t then
            local ticket = struct.pack(PARTS, v[o + 3], v[o + 4], v[o + 2] % PART)
            s.ends[ticket] = ends
            if whose == s.waits then enqueue(line(s), ticket) end
          end
          kill(v, o)
        end
      end
    end

    -- How many hold a slot once those who wait have what is free of n, and how many
    -- wait then.
    local function shares(s, n)
      local total = s.held + s.waiting
      local held = max(s.held, min(n, total))
      return held, total - held
    end

    -- What the ticket would be told that asks for one of n slots, or for a place in
    -- the queue, and whether it has one already.
    local function judge(s, ticket, n, queue)
      local held, waiting = s.held, s.waiting
      if held + waiting > 0 and ticket ~= '' and lease(s, ticket) then
        local turn = number(s, ticket)
        held = shares(s, n)
        return turn and place(s, ticket, turn) > held - s.held and QUEUED or ALLOWED, true
      end
      if waiting > 0 then held, waiting = shares(s, n) end
      if held >= n and waiting >= queue then return REFUSED end
      -- What else the request begins comes before its lease.
      if ticket ~= '' and crowded(s, ROOM) and not openset(s) then return FOREIGN end
      return held < n and ALLOWED or QUEUED
    end

    -- Lets the ticket's lease begin again.
    local function extend(s, ticket, l)
      local ends = s.t + WS[l]
      if s.big then
        s.ends[ticket] = ends
      else
        local v, o = s.v, seek(s, ticket)
        local rest = v[o + 2] % PART + TICKS[l]
        v[o + 1], v[o + 2] = ends - rest, rest
      end
      if ends < s.b or s.held + s.waiting == 1 then s.b = ends end
      if ends > s.last then s.last = ends end
      s.changed, s.reset = true, false
    end

    -- Gives the ticket a slot, or the last place in the queue, as judged. Returns its
    -- place, or 0.
    local function enter(s, ticket, l, inside)
      local n = NS[l]
      if s.waiting > 0 then grant(s, n) end
      if inside then
        local turn = number(s, ticket)
        s.changed = true
        return turn and place(s, ticket, turn) or 0
      end
      if crowded(s, 0) then move(s) end
      local ends, waits = s.t + WS[l], 0
      if s.held < n then
        s.held = s.held + 1
      else
        waits = s.waiting + 1
        s.waiting = waits
      end
      if s.big then
        if waits > 0 then enqueue(line(s), ticket) end
        s.ends[ticket] = ends
      else
        local v = s.v
        local o = #v + 1
        local a, b, rest = struct.unpack(PARTS, ticket)
        rest = rest + TICKS[l]
        v[o], v[o + 1], v[o + 2], v[o + 3], v[o + 4] = waits > 0 and s.waits or s.holds, ends - rest, rest, a, b
      end
      if ends < s.b or s.held + s.waiting == 1 then s.b = ends end
      if ends > s.last then s.last = ends end
      s.changed, s.reset = true, false
      return waits
    end

    local function leave(s, ticket, n)
      s.changed = s.changed or s.alive -- its clock moves on, if nothing else
      grant(s, n)
      if s.held + s.waiting == 0 or not lease(s, ticket) then return end
      local turn = number(s, ticket)
      if turn then dequeue(s, ticket, turn) else s.held = s.held - 1 end
      if s.big then s.ends[ticket] = false else kill(s.v, seek(s, ticket)) end
      s.changed = true
      grant(s, n)
    end

    -- Forgets all leases.
    local function forget(s)
      local v = s.v
      for o = 2, #v, 5 do
        if v[o] == s.holds or v[o] == s.waits then kill(v, o) end
      end
      s.live, s.held, s.waiting, s.t, s.b, s.last = false, 0, 0, now, MAX_INSTANT, 0
      s.line, s.granted, s.queued, s.alive, s.ends = nil, nil, 0, false, {}
      s.changed, s.reset, s.forgotten = true, true, true
    end

    -- Writes the numbers of open leases to their value.
    local function book(s)
      if not s.changed or s.reset then return end
      if not s.big then -- its clock has passed the leases that have ended
        local v, t = s.v, s.t
        for o = 2, #v, 5 do
          if (v[o] == s.holds or v[o] == s.waits) and v[o + 1] + v[o + 2] <= t then kill(v, o) end
        end
      end
      local left, a, b = s.last - s.t, 0, 0
      if s.held + s.waiting == 0 then
        left = 0
      elseif s.big then
        a, b = BIG + s.held + HELD * s.waiting, s.b
      end
      local v, o = s.v, find(s.v, s.id)
      if not v[o] and not s.big then
        if o >= 5 * MAX_STATES then -- there is no room to tell its instant
          dirty[s.k] = true
          return
        end
        local first
        for i = 2, #v, 5 do
          if v[i] == s.holds then
            first = first or i
            if s.waiting == 0 and began(v[i + 1] + v[i + 2], v[i + 2]) == s.t then
              dirty[s.k] = true -- it tells
              return
            end
          end
        end
        if first then
          for i = 0, 4 do v[o + i] = v[first + i] end
          o = first -- before its leases
        end
      end
      store(s.k, o, s.id, s.t, left, a, b)
    end

    local add, nadd, gone, ngone = {}, 0, {}, 0

    local function flush(key)
      if nadd > 0 then call('ZADD', key, unpack(add, 1, nadd)) end
      nadd = 0
    end

    -- Notes that a member is to be written, or to be removed.
    local function put(s, member, score)
      if score then
        add[nadd + 1], add[nadd + 2] = text(score), member
        nadd = nadd + 2
        if nadd == 2 * PAIRS then flush(s.key) end
      elseif s.live then
        ngone = ngone + 1
        gone[ngone] = member
      end
    end

    -- Writes open leases to their set. What is new goes first, as in a log.
    local function write(s)
      if not s.changed or not s.big then return end
      local key = s.key
      if s.held + s.waiting == 0 then
        if s.card > 0 then call('DEL', key) end
        return
      end
      if s.card > 0 and not s.live then -- what the set holds counts no more
        call('ZADD', key, '-inf', '')
        call('ZREMRANGEBYRANK', key, 1, -1)
      end
      for ticket, ends in pairs(s.ends) do put(s, ticket, ends) end
      if s.line then
        for ticket, turn in pairs(s.line.turn) do put(s, ticket .. QUEUE, turn) end
      end
      flush(key)
      if s.card > 0 and not s.live then call('ZREM', key, '') end
      for first = 1, ngone, PAIRS do
        call('ZREM', key, unpack(gone, first, min(first + PAIRS - 1, ngone)))
      end
      ngone = 0
      local span = floor(s.last / SPAN)
      if not s.live or span ~= floor(s.before / SPAN) then
        call('EXPIRE', key, text(floor(((span + 1) * SPAN - now + GRACE) / 1000000) + 1 + still))
      end
    end

    -- Tells those who wait, if anybody listens: it does not matter if nobody may.
    local function publish(s)
      if s.forgotten then redis.pcall('PUBLISH', s.key, '') end
      if not s.granted then return end
      for _, ticket in ipairs(s.granted) do redis.pcall('PUBLISH', s.key, ticket) end
    end

    return {
      open = open, lease = lease, number = number, place = place, grant = grant, shares = shares, judge = judge,
      extend = extend, enter = enter, leave = leave, forget = forget, book = book, write = write, publish = publish,
    }
  end
end

local out = { now }
local nout = 1
-- By charge of the request at hand: the state's offset, or whether the ticket has
-- its slot already; its instant, a, b; the log or the leases; the verdict; the
-- penalty of a refusal.
local O, T, A, B, G, V, P = {}, {}, {}, {}, {}, {}, {}
local E, C = {}, {} -- of a quota: the end of the next period, and what period returns last
                    -- of slots: where in the value their state is, and in O where
                    -- the lease goes

-- What decides requests of other kinds than takes and peeks.
local others
if q[2] == 1 then
  -- How long an advanced state matters.
  local function lasting(alg, t, a, b, n, w)
    if alg == BUCKET then
      return draining(t, a, b, n, w)
    elseif alg == WINDOW then
      if a > 0 then return 2 * w - t % w end
      return b > 0 and w - t % w or 0
    end
    return a > 0 and w - t % w or 0
  end

  -- Whether the leases of id, if any, are in the value.
  local function fewof(v, id)
    local o = find(v, id)
    if v[o] then return v[o + 3] < BIG end
    return o < FULL
  end

  -- Lets a ticket leave, as leave does, where its lease is in the value and nobody
  -- waits. Returns false, and has done nothing, if that is not so.
  local function leavehere(k, l, a, b, part)
    local v, id = values[k], IDS[l]
    local t, last, held, over = now, 0, 0, 0
    local i, whose, o, first = 2, v[2], nil, nil
    while whose do
      if whose == id then
        o, last = i, v[i + 1] + v[i + 2]
        if v[i + 1] > t then t = v[i + 1] end
      elseif whose == -id then
        local rest = v[i + 2]
        local ends = v[i + 1] + rest
        first = first or i
        if not o then
          if began(ends, rest) > t then return false end
          if ends > last then last = ends end
        end
        if v[i + 3] == a and v[i + 4] == b and rest % PART == part or ends <= t then
          G[over + 1] = i
          over = over + 1
        else
          held = held + 1
        end
      elseif whose == -id - WAITS then
        return false
      end
      i = i + 5
      whose = v[i]
    end
    if t >= last then return true end -- there is nobody
    local place = G[1]
    if not o then -- the place of one who left is the state's, which is before its leases
      if over == 0 then return false end
      if place > first then
        for j = 0, 4 do v[place + j] = v[first + j] end
      end
      o = first
    elseif first and o > first then
      return false
    elseif over > 0 then -- it is left: mostly another lease comes
      v[place + 1] = -v[place + 2]
    end
    for j = 2, over do
      i = G[j]
      v[i], v[i + 1] = -1, -v[i + 2]
    end
    store(k, o, id, t, held > 0 and last - t or 0, 0, 0)
    return true
  end

  -- Whether a charge of the m that follow at the cursor, each `width` numbers
  -- long, has a value, a log or leases that are not stint's. If `few` is set,
  -- few leases need not be open.
  local function foreign(m, width, few)
    for c = cursor, cursor + (m - 1) * width, width do
      local k, l, g = q[c], q[c + 1], q[c + 2]
      if not values[k] then return true end
      if g > 0 then
        local opened = true
        if ALGS[l] == LOG then
              opened = open(g, k, l, now)
        elseif not few or slots[g] or not fewof(values[k], IDS[l]) then
          leases = leases or makeleases()
          opened = leases.open(g, k, l)
        end
        if not opened then return true end
      end
    end
    return false
  end

  -- Whether the instants that came with a quota among the m charges that follow at
  -- the cursor, each `width` numbers long, do not tell of its periods. Then that is
  -- the answer, and the cursor is behind them. A receipt's instant is `receipt`
  -- numbers into its charge.
  local function untold(m, width, receipt)
    local any = false
    for i = 1, m do
      local c = cursor + (i - 1) * width
      local k, l = q[c], q[c + 1]
      T[i] = now
      if ALGS[l] == QUOTA then
        local t, _, b = period(values[k], find(values[k], IDS[l]), receipt and max(now, q[c + receipt]) or now, l)
        T[i], any = t, any or not b or not after(l, b)
      end
    end
    if not any then return false end
    out[nout] = PERIODS
    for i = 1, m do out[nout + i] = T[i] - now end
    cursor, nout = cursor + m * width, nout + m
    return true
  end

  local function settle()
    local settled, ticket, m = q[cursor], cursor + 1, q[cursor + 4]
    cursor = cursor + 5
    nout = nout + 1
    if foreign(m, 8, true) then
      cursor = cursor + 8 * m
      out[nout] = FOREIGN
      return
    end
    if untold(m, 8, 5) then return end
    out[nout] = ALLOWED
    local first = settled > 0 and call('SET', KEYS[settled], '', 'NX', 'EX', TICKET + still)
    for _ = 1, m do
      local k, l, g, taken, total = q[cursor], q[cursor + 1], q[cursor + 2], q[cursor + 3], q[cursor + 4]
      local rat, ra, rb = q[cursor + 5], q[cursor + 6], q[cursor + 7]
      cursor = cursor + 8
      taken, total = min(taken, MAX_USED), min(total, MAX_USED)
      local alg, n, w = ALGS[l], NS[l], WS[l]
      local o = find(values[k], IDS[l])
      if alg == SLOTS then
        if total == 0 and (slots[g] or not leavehere(k, l, q[ticket], q[ticket + 1], q[ticket + 2])) then
          leases = leases or makeleases()
          leases.leave(leases.open(g, k, l), ticketat(ticket), n)
        end
      elseif alg == LOCKOUT then
        if first and (values[k][o] or o < FULL) then settlelockout(k, l, taken, total, rat) end
      elseif first and taken ~= total and (values[k][o] or o < FULL) then
        if alg == LOG then
          settlelog(g, k, l, total - taken, rat)
        elseif alg == QUOTA then
          local t, a, b, next, c = period(values[k], o, max(now, rat), l)
          c = c or previous(values[k], l, t)
          if next and rb >= b then
            storequota(k, l, t, min(max(0, a + total - taken), MAX_USED), b, next, c)
          elseif next and ra >= b then
            storequota(k, l, t, a, b, next, min(max(0, c + total - taken), MAX_USED))
          end
        else
          local t, a, b = read(values[k], o, max(now, rat), alg, n, w)
          local delta, changed = total - taken, true
          if alg == BUCKET then
            if delta > 0 then
              a = min(a + delta, MAX_USED)
            else
              local units, frac = muldiv(max(0, t - rat), n, w)
              units, frac = subtract(units, frac, ra, rb, w)
              local back, part = subtract(taken, 0, units, frac, w)
              if back >= -delta then back, part = -delta, 0 end
              a, b = subtract(a, b, back, part, w)
            end
          else
            local start = t - t % w
            if rat >= start then
              a = min(max(0, a + delta), MAX_USED)
            elseif alg == WINDOW and rat >= start - w then
              b = min(max(0, b + delta), MAX_USED)
            else
              changed = false -- its window is over
            end
          end
          if changed then store(k, o, IDS[l], t, lasting(alg, t, a, b, n, w), a, b) end
        end
      end
    end
  end

  local function reset()
    local m = q[cursor]
    cursor = cursor + 1
    nout = nout + 1
    if foreign(m, 3) then
      cursor = cursor + 3 * m
      out[nout] = FOREIGN
      return
    end
    out[nout] = ALLOWED
    for _ = 1, m do
      local k, l, g = q[cursor], q[cursor + 1], q[cursor + 2]
      cursor = cursor + 3
      local v = values[k]
      for id = IDS[l], IDS[l] + ((ALGS[l] == QUOTA or ALGS[l] == LOCKOUT) and 0.5 or 0), 0.5 do
        local o = find(v, id)
        if v[o] then
          for _ = 1, 5 do table.remove(v, o) end
          dirty[k] = true
        end
      end
      if ALGS[l] == SLOTS then
        leases.forget(slots[g])
        dirty[k] = true
      elseif g > 0 then
        local log = logs[g]
        log.t, log.used, log.add, log.dead, log.changed, log.left = now, 0, 0, true, true, 0
        log.reset = true -- and has no state, until units are added
      end
    end
  end

  local function renew()
    local m = q[cursor]
    cursor, nout = cursor + 1, nout + 1
    out[nout] = ALLOWED
    for _ = 1, m do
      local k, l, g, ticket = q[cursor], q[cursor + 1], q[cursor + 2], ticketat(cursor + 3)
      cursor = cursor + 6
      leases = leases or makeleases()
      local s = values[k] and leases.open(g, k, l)
      local verdict, at, held, queue, first = FOREIGN, 0, 0, 0, 0
      if s then
        s.changed = s.changed or s.alive
        leases.grant(s, NS[l])
        verdict, queue = REFUSED, s.waiting
        if s.held + s.waiting > 0 and leases.lease(s, ticket) then
          leases.extend(s, ticket, l)
          local turn = leases.number(s, ticket)
          verdict, queue = turn and QUEUED or ALLOWED, turn and leases.place(s, ticket, turn) or queue
        end
        at, held, first = s.t - now, s.held, s.b - now
      end
      out[nout + 1], out[nout + 2], out[nout + 3], out[nout + 4], out[nout + 5] = verdict, at, held, queue, first
      nout = nout + 5
    end
  end

  local function usage()
    local m = q[cursor]
    nout = nout + 1
    cursor = cursor + 1
    local status = nout
    out[status] = ALLOWED
    for _ = 1, m do
      local v, l = values[q[cursor]], q[cursor + 1]
      cursor = cursor + 2
      if not v then
        out[status], nout = FOREIGN, status
      elseif out[status] == ALLOWED then
        local o = find(v, IDS[l])
        local t, a, b, _, c = period(v, o, now, l)
        if not v[o] or t >= v[o + 1] + v[o + 2] then b = 0 end
        if b > 0 and not c then c = previous(v, l, t) end
        out[nout + 1], out[nout + 2], out[nout + 3], out[nout + 4] = t - now, a, b, c or 0
        nout = nout + 4
      end
    end
  end

  local function setusage()
    local k, l, used = q[cursor], q[cursor + 1], q[cursor + 2]
    local v = values[k]
    local o = v and find(v, IDS[l])
    nout = nout + 1
    if not v or not v[o] and o >= FULL then
      cursor = cursor + 3
      out[nout] = FOREIGN
      return
    end
    if untold(1, 3) then return end
    cursor = cursor + 3
    out[nout] = ALLOWED
    local t, _, b, next, c = period(v, o, now, l)
    storequota(k, l, t, min(used, MAX_USED), b, next, c or previous(v, l, t))
  end

  others = { [SETTLE] = settle, [RESET] = reset, [RENEW] = renew, [USAGE] = usage, [SETUSAGE] = setusage }
end

local requests = q[cursor]
cursor = cursor + 1
for _ = 1, requests do
  local kind = q[cursor]
  cursor = cursor + 1
  if kind > PEEK then
    others[kind]()
  else
    -- It has no function of its own, which would be made for every group, and where
    -- each local of the script would cost more to read.
    local c = cursor
    local m = q[c]
    local status = ALLOWED
    c = c + 1
    for i = 1, m do
      local k, l, units = q[c], q[c + 1], q[c + 2]
      local alg, cap, v = ALGS[l], CAPS[l], values[k]
      local count, verdict = 0, ALLOWED
      c = c + 3
      if alg == LOG then
        local log = v and open(q[c], k, l, now)
        if log then
          G[i], count = log, log.used
        else
          v = nil
        end
        c = c + 1
      elseif alg == SLOTS then
        -- Most requests for slots meet a few leases, behind their state, and nobody
        -- who waits. These are judged, and entered, where they are.
        local g, few = q[c], v
        if opened[k] then few = false end
        if few then
          local id, t, n = IDS[l], now, NS[l]
          local o, held, over, size, other = nil, 0, false, 2, v[2]
          while other do
            if other > 0 then
              if other == id then
                if v[size + 3] >= BIG or held > 0 or over then few = false break end
                o = size
                if v[size + 1] > t then t = v[size + 1] end
              end
            elseif other == -id then
              local rest = v[size + 2]
              local ends, part = v[size + 1] + rest, rest % PART
              if not o and ends - (rest - part) * (TICK / PART) > t then -- it began later
                few = false
                break
              elseif ends <= t then
                over = over or size
              elseif v[size + 3] == q[c + 1] and v[size + 4] == q[c + 2] and part == q[c + 3] then
                few = false
                break
              else
                held = held + 1
              end
            elseif other == -id - WAITS then
              few = false
              break
            end
            size = size + 5
            other = v[size]
          end
          if size >= FULL then few = false end
          T[i], A[i], E[i] = t, held, o
          if units > 0 and few then
            if held >= n then
              few, verdict = cap == 0, REFUSED
            elseif o and held == 0 and TICKS[l] > 0 then
              O[i], E[i] = o, nil -- the state's place: the lease tells what it did
            else
              O[i] = over or size
              few = held < SMALL and (o or TICKS[l] > 0)
            end
          end
        end
        G[i] = false
        if not few and g == 0 then
          if status ~= FOREIGN then status = UNKEYED end
        elseif not few then
          verdict = ALLOWED
          leases = leases or makeleases()
          local s = v and leases.open(g, k, l)
          if s then
            G[i] = s
            if units > 0 then
              verdict, O[i] = leases.judge(s, kind == TAKE and ticketat(c + 1) or '', NS[l], cap)
            end
            if verdict == FOREIGN then v = nil end
          else
            v = nil
          end
        end
        if verdict == REFUSED then
          if status < REFUSED then status = REFUSED end
        elseif verdict == QUEUED and status == ALLOWED then
          status = QUEUED
        end
        c, cap = c + 4, MAX_INSTANT
      elseif v then
        local id, o = IDS[l], 2
        local other = v[o]
        while other and other ~= id do
          o = o + 5
          other = v[o]
        end
        if alg == QUOTA and (other or o < FULL) then
          O[i] = o
          T[i], A[i], B[i], E[i], C[i] = period(v, o, now, l)
          count = A[i]
          if kind == TAKE and units > 0 and not E[i] and status ~= FOREIGN then status = PERIODS end
        elseif alg == LOCKOUT and (other or o < FULL) then
          O[i] = o
          T[i], A[i], B[i], count = lockout(v, o, now)
          if not count then -- blocked, also for no units
            count, verdict, P[i] = cap, REFUSED, 0
            if status < REFUSED then status = REFUSED end
          end
        elseif other or o < FULL then
          O[i] = o
          T[i], A[i], B[i], count = read(v, o, now, alg, NS[l], WS[l])
        else
          v = nil
        end
      end
      if not v then
        status = FOREIGN
      elseif units > 0 and count + units > cap and (count > 0 or units > MOST[l]) then
        if status < REFUSED then status = REFUSED end
        if units > cap and units > MOST[l] then
          verdict = NEVER
        else
          verdict = REFUSED
          P[i] = COUNTS[l] and min(units, 2 * cap - count) or 0
        end
      end
      V[i] = verdict
    end

    local n = nout + 1
    out[n] = status
    local first = cursor + 1
    cursor, c = c, first
    if status == PERIODS then
      for i = 1, m do
        local alg = ALGS[q[c + 1]]
        out[n + i] = alg == QUOTA and T[i] - now or 0
        c = c + (alg == LOG and 4 or alg == SLOTS and 7 or 3)
      end
      n = n + m
    elseif status < FOREIGN then
      local brief = status <= QUEUED and kind == TAKE
      for i = 1, m do
        local k, l, add = q[c], q[c + 1], q[c + 2]
        local alg, at, a, b, left = ALGS[l]
        c = c + 3
        if not brief then
          add = V[i] == REFUSED and kind == TAKE and P[i] or 0
        end
        if alg == LOG then
          local log, cap = G[i], CAPS[l]
          if add > 0 then
            log.used, log.add, log.changed = log.used + add, log.add + add, true
          end
          at, a, b, left = log.t, log.used, 0, 0
          if a > 0 then b = free(log, min(a, cap) - 1) - now end
          if V[i] == REFUSED then left = free(log, max(0, cap - q[c - 1])) - now end
          c = c + 1
        elseif alg == SLOTS then
          local s = G[i]
          b, left = 0, 0
          if not s then
            at, a = T[i], A[i]
            if brief and add > 0 then
              local v, id, place, o = values[k], IDS[l], O[i], E[i]
              local ends, rest = at + WS[l], q[c + 3] + TICKS[l]
              while v[place] and v[place] ~= id and v[place] ~= -id do place = place + 5 end -- others were added there
              if o then
                local last = v[o + 1] + v[o + 2]
                v[o + 1], v[o + 2] = at, (ends > last and ends or last) - at
              end
              v[place], v[place + 1], v[place + 2], v[place + 3], v[place + 4] = -id, ends - rest, rest, q[c + 1], q[c + 2]
              dirty[k] = true
              a = a + 1
            end
          else
            at = s.t
            if brief and add > 0 then
              b = -leases.enter(s, ticketat(c + 1), l, O[i])
              a = s.held
              if b == 0 then b = s.waiting end
            else
              a, b = leases.shares(s, NS[l])
            end
          end
          c = c + 4
        else
          local v, o, id = values[k], O[i], IDS[l]
          if add > 0 then
            local w = WS[l]
            while v[o] ~= id and v[o] do o = o + 5 end -- others were added there
            at, a, b = T[i], A[i] + add, B[i]
            if alg == BUCKET then
              left = draining(at, a, b, NS[l], w)
            elseif alg == WINDOW then
              left = 2 * w - at % w
            elseif alg == QUOTA then
              a, left = min(a, MAX_USED), E[i] - at
              if C[i] then storeprevious(k, l, at, b, C[i]) end
            elseif alg == LOCKOUT then
              b, left = taketry(k, l, at, b)
              o = find(v, id) -- it may have come before
            else
              left = w - at % w
            end
            v[o] = id
            v[o + 1] = at
            v[o + 2] = left
            v[o + 3] = a
            v[o + 4] = b
            dirty[k] = true
          elseif v[o] == id then
            at, left, a, b = v[o + 1], v[o + 2], v[o + 3], v[o + 4]
          else
            at, left, a, b = now, 0, 0, 0
          end
        end
        if brief and (add > 0 or alg == LOG or alg == SLOTS) then
          out[n + 1], out[n + 2], out[n + 3] = at - now, a, b
          n = n + 3
        else
          out[n + 1], out[n + 2], out[n + 3], out[n + 4], out[n + 5] = V[i], at - now, a, b, left
          n = n + 5
        end
      end
    end
    nout = n
  end
end

-- From here on all is decided, and nothing raises an error any more: an error
-- between two writes would leave the first without the second.
for _, log in pairs(logs) do book(log) end
for _, s in pairs(slots) do leases.book(s) end
for _, log in pairs(logs) do write(log) end
for _, s in pairs(slots) do leases.write(s) end

-- Values live as long as the longest of their states, to the end of the span in
-- which that ends. Most writes end in the span of the one before: they leave the
-- expiry as it is, which takes half the time, and overwrite a value of the same size
-- in its place, which takes a third. Keys of one group mostly live equally long, and
-- numbers are slow to print: hence whole seconds, printed once.
local seconds, pack = {}, struct.pack
for k in pairs(dirty) do
  local v = values[k]
  local n, last = trim(v)
  if n > 0 then
    local f, span = formats[n], last - last % SPAN
    if not f then
      f = '<c2' .. string.rep('d', n)
      formats[n] = f
    end
    local raw = pack(f, unpack(v, 1, n + 1))
    if span == spans[k] and still == 0 then
      if n == sizes[k] then
        call('SETRANGE', KEYS[k], '0', raw)
      else -- exactly as much memory as it needs
        call('SET', KEYS[k], raw, 'KEEPTTL')
      end
    else
      local ttl = (span + SPAN - now + GRACE) / 1000000
      ttl = ttl - ttl % 1 + 1 + still
      local text = seconds[ttl]
      if not text then
        text = string.format('%.0f', ttl)
        seconds[ttl] = text
      end
      call('SET', KEYS[k], raw, 'EX', text)
    end
  else
    call('DEL', KEYS[k])
  end
end

for _, s in pairs(slots) do leases.publish(s) end

if nout <= 200 then return pack('<' .. string.rep('d', nout), unpack(out, 1, nout)) end
local parts, all = {}, '<' .. string.rep('d', 200)
for i = 1, nout, 200 do
  local last = min(i + 199, nout)
  local f = last == i + 199 and all or '<' .. string.rep('d', last - i + 1)
  parts[#parts + 1] = struct.pack(f, unpack(out, i, last))
end
return table.concat(parts)
