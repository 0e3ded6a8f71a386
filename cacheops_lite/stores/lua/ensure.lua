-- ENSURE: make the stamps that are missing, register new schemes, return the stamps. One slot, atomic.
-- KEYS gen, schemes, any row, conj...
-- ARGV server id, version, fresh gen, gen ttl ms, conj ttl ms, most schemes, (scheme, fresh)...
-- Returns the gen and for each conj its stamp, or p (pending), y (young), f (too many schemes).
-- A key of another type counts as missing. What else keeps us from reading, as a right that the
-- user lacks, must end the script: a stamp that is there must not be taken for missing.
local function get(key)
    local value = redis.pcall('GET', key)
    if type(value) == 'table' and not string.find(value.err, 'WRONGTYPE', 1, true) then
        return redis.call('GET', key)
    end
    return type(value) == 'string' and value or nil
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function deadline(value)
    local last = 0
    if value and string.sub(value, 1, 1) == 'p' then
        for until_ms in string.gmatch(value, '%x+:(%d+)') do
            last = math.max(last, tonumber(until_ms))
        end
    end
    return last > now and last or nil
end

local function lives(key, ttl)
    if redis.call('PTTL', key) < ttl then
        redis.call('PEXPIRE', key, ttl)
    end
end

-- Schemes end with a check: those of a damaged value are not known.
local function check(body)
    return '#' .. string.sub(redis.sha1hex(body), 1, 16)
end

local function unseal(value)
    local body = value and string.sub(value, 1, -18)
    return body and body .. check(body) == value and body or nil
end

local gen = get(KEYS[1])
local conjs = #KEYS - 3
local out = {}
if deadline(gen) then
    for i = 1, conjs do
        out[i] = 'p'
    end
    return {gen, out}
end

local own = 's' .. ARGV[2] .. ARGV[1]
local gen_ttl, ttl, most = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local wait = deadline(get(KEYS[3])) or 0
local known, ready, count, changed = unseal(get(KEYS[2])), {}, 0, false
if not gen or string.sub(gen, 1, #own) ~= own or #gen ~= #own + 16
        or not known or string.sub(known, 1, #gen) ~= gen then
    gen = own .. ARGV[3]
    known = gen
    redis.call('SET', KEYS[1], gen, 'PX', gen_ttl)
    changed = true
end
for name, ready_ms in string.gmatch(string.sub(known, #gen + 1), ' ([^ =]+)=(%d+)') do
    ready[name] = tonumber(ready_ms)
    count = count + 1
end
for i = 1, conjs do
    local scheme = ARGV[5 + 2 * i]
    -- Comparisons (> and < in a scheme are spelt %3E and %3C) vary more than columns do: they
    -- leave room for the others.
    local limit = string.find(scheme, '%%3[CE]') and most / 2 or most
    if scheme ~= '' and not ready[scheme] and count < limit then
        ready[scheme] = wait
        known = known .. ' ' .. scheme .. '=' .. string.format('%.0f', wait)
        count = count + 1
        changed = true
    end
end
if changed then
    -- Before any conj stamp: a script that runs out of memory keeps what it has done.
    redis.call('SET', KEYS[2], known .. check(known), 'PX', gen_ttl)
else
    lives(KEYS[1], gen_ttl)
    lives(KEYS[2], gen_ttl)
end

local mine = string.sub(gen, -16)
for i = 1, conjs do
    local key, scheme = KEYS[3 + i], ARGV[5 + 2 * i]
    if scheme ~= '' and not ready[scheme] then
        out[i] = 'f'
    elseif scheme ~= '' and ready[scheme] > now then
        out[i] = 'y'
    else
        local value = get(key)
        if deadline(value) then
            out[i] = 'p'
        elseif value and #value == 33 and string.sub(value, 1, 1) == 's' and string.sub(value, 18) == mine then
            lives(key, ttl)
            out[i] = value
        else
            out[i] = 's' .. ARGV[6 + 2 * i] .. mine
            redis.call('SET', key, out[i], 'PX', ttl)
        end
    end
end
return {gen, out}
