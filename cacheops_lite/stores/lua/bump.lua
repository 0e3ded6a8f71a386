-- BUMP: take our token from each key; the last one leaves a new stamp if there was one before the marks, or
-- else deletes the key, also a stamp (then our mark was lost). With a lag our token stays that much longer.
-- One slot, atomic.
-- The new stamp is a digest of the one before and our token: it never comes back, however late and often
-- a MARK or a BUMP is delivered. It is as if a reader had come with an ENSURE, which can be left out then.
-- KEYS gen, schemes, keys to bump...        ARGV token, lag ms
-- A key of another type counts as missing. What else keeps us from reading, as a right that the
-- user lacks, must end the script: marks of others that are not seen would be lost.
local function get(key)
    local value = redis.pcall('GET', key)
    if type(value) == 'table' and not string.find(value.err, 'WRONGTYPE', 1, true) then
        return redis.call('GET', key)
    end
    return type(value) == 'string' and value or nil
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local own, lag = ARGV[1], tonumber(ARGV[2])

-- It has the time that was left, and its first digits say so (core/stamps.py).
local function renewed(key, before, left)
    local life = math.min(math.floor(math.log(left / 1000) / math.log(1.08)), 255)
    if life < 0 then
        return false
    end
    local random = string.sub(redis.sha1hex(before .. own), 1, 14)
    local stamp = string.format('s%02x', life) .. random .. string.sub(before, 17)
    -- Out of memory a SET is refused, and a DEL goes through.
    return not redis.pcall('SET', key, stamp, 'PX', string.format('%.0f', left)).err
end

for i = 3, #KEYS do
    local value = get(KEYS[i])
    local tokens, last, before, ends = {}, now
    if value and string.sub(value, 1, 1) == 'p' then
        for token, until_ms in string.gmatch(value, '(%x+):(%d+)') do
            local deadline = tonumber(until_ms)
            if deadline > now and token ~= own then
                tokens[#tokens + 1] = token .. ':' .. until_ms
                last = math.max(last, deadline)
            end
        end
        before, ends = string.match(value, ' =([0-9a-f]+)/(%d+)$')
    end
    if lag > 0 then
        tokens[#tokens + 1] = own .. ':' .. string.format('%.0f', now + lag)
        last = math.max(last, now + lag)
    end
    if #tokens > 0 then
        local kept = before and ' =' .. before .. '/' .. ends or ''
        redis.call('SET', KEYS[i], 'p' .. table.concat(tokens, ' ') .. kept, 'PX', string.format('%.0f', last - now))
    elseif not (before and tonumber(ends) > now and renewed(KEYS[i], before, tonumber(ends) - now)) then
        redis.call('DEL', KEYS[i])
    end
end
return {get(KEYS[1]) or false, get(KEYS[2]) or false}
