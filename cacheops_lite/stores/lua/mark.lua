-- MARK: add our token to each key; then read the gen and the schemes. One slot, atomic.
-- A conj's stamp goes, but its digits and its end stay behind the tokens: BUMP makes the next stamp of them.
-- KEYS gen, schemes, keys to mark...        ARGV token, ttl ms
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
local own, ttl = ARGV[1], tonumber(ARGV[2])

for i = 3, #KEYS do
    local value = get(KEYS[i])
    local tokens, last, stamp = {}, now + ttl, ''
    if value and string.sub(value, 1, 1) == 'p' then
        for token, until_ms in string.gmatch(value, '(%x+):(%d+)') do
            local deadline = tonumber(until_ms)
            if deadline > now and token ~= own then
                tokens[#tokens + 1] = token .. ':' .. until_ms
                last = math.max(last, deadline)
            end
        end
        stamp = string.match(value, ' =[0-9a-f]+/%d+$') or ''
    elseif value and #value == 33 and string.find(value, '^s[0-9a-f]+$') then
        stamp = ' =' .. string.sub(value, 2) .. '/' .. string.format('%.0f', now + redis.call('PTTL', KEYS[i]))
    end
    tokens[#tokens + 1] = own .. ':' .. string.format('%.0f', now + ttl)
    redis.call('SET', KEYS[i], 'p' .. table.concat(tokens, ' ') .. stamp, 'PX', string.format('%.0f', last - now))
end
-- After the marks: a scheme that is registered later finds the any-row key pending.
return {get(KEYS[1]) or false, get(KEYS[2]) or false}
