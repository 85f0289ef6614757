-- KEYS: ring, waiting. ARGV: lane, model, token, seconds, how many, jobs of a shard.
-- Up to so many shards for one worker at once: those that wait, the longest first, then new ones from the ring.
local limit, alive = tonumber(ARGV[5]), tonumber(ARGV[4])
local waiting, taken = {}, {}

local function give(shard)
  hand_over(shard, ARGV[3], alive)
  taken[#taken + 1] = described(shard)
end

for _, id in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  local shard = read_shard(id)
  if shard then waiting[#waiting + 1] = shard end
end
table.sort(waiting, function(a, b) return a.sent_at < b.sent_at end)
for position = 1, math.min(limit, #waiting) do give(waiting[position]) end
while #taken < limit do
  local id = next_shard(KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[6]), 0)
  if not id then break end
  give(read_shard(id))
end
return taken
