-- BUMP: take our token from each key; the last one deletes the key, also a stamp (then our mark was lost).
-- With a lag our token stays that much longer. One slot, atomic.
-- KEYS gen, schemes, keys to bump...        ARGV token, lag ms
-- A key of another type counts as missing. What else keeps us from reading, as a right that the
-- user lacks, must end the script: a mark that sees nothing would overwrite those of others.
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

for i = 3, #KEYS do
    local value = get(KEYS[i])
    local tokens, last = {}, now
    if value and string.sub(value, 1, 1) == 'p' then
        for token, until_ms in string.gmatch(value, '(%x+):(%d+)') do
            local deadline = tonumber(until_ms)
            if deadline > now and token ~= own then
                tokens[#tokens + 1] = token .. ':' .. until_ms
                last = math.max(last, deadline)
            end
        end
    end
    if lag > 0 then
        tokens[#tokens + 1] = own .. ':' .. string.format('%.0f', now + lag)
        last = math.max(last, now + lag)
    end
    if #tokens > 0 then
        redis.call('SET', KEYS[i], 'p' .. table.concat(tokens, ' '), 'PX', string.format('%.0f', last - now))
    else
        redis.call('DEL', KEYS[i])
    end
end
return {get(KEYS[1]) or false, get(KEYS[2]) or false}
