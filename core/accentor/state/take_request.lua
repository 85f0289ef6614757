-- KEYS: rate. ARGV: requests a minute. A bucket of a minute's requests, filled evenly. Returns the seconds to wait, '0' if taken.
local limit = tonumber(ARGV[1])
local time = now()
local field = redis.call('HMGET', KEYS[1], 'left', 'at')
local left = limit
if field[1] then
  left = math.min(limit, tonumber(field[1]) + math.max(0, time - tonumber(field[2])) * limit / 60)
end
local wait = 0
if left >= 1 then left = left - 1 else wait = (1 - left) * 60 / limit end
redis.call('HSET', KEYS[1], 'left', string.format('%.9f', left), 'at', stamp(time))
redis.call('EXPIRE', KEYS[1], 120)
return string.format('%.6f', wait)
