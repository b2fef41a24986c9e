-- Sends the bodies of the file BODIES, each once (with REPEAT again from the start), and prints what was counted.
local file = io.open(os.getenv("BODIES"), "rb")
local data = file:read("*a")
file:close()

local requests, at = {}, 1
while at <= #data do
  local a, b, c, d = data:byte(at, at + 3)
  local length = ((a * 256 + b) * 256 + c) * 256 + d
  local body = data:sub(at + 4, at + 3 + length)
  requests[#requests + 1] = wrk.format("POST", nil, { ["content-type"] = "application/cbor" }, body)
  at = at + 4 + length
end

local sent, again = 0, os.getenv("REPEAT") == "1"
local threads = {}
exhausted = 0

function setup(thread) threads[#threads + 1] = thread end

function request()
  sent = sent + 1
  if sent > #requests then
    if again then
      sent = 1
    else
      exhausted = 1
      wrk.thread:stop()
      sent = #requests
    end
  end
  return requests[sent]
end

function done(summary, latency)
  local counts = {}
  for i = 1, #latency do
    local value, count = latency(i)
    counts[#counts + 1] = string.format("[%d,%d]", value, count)
  end
  local e = summary.errors
  local errors = e.connect + e.read + e.write + e.status + e.timeout
  local ended = 0
  for _, thread in ipairs(threads) do ended = math.max(ended, thread:get("exhausted")) end
  io.write(string.format(
    '\nONECODE {"answers":%d,"errors":%d,"duration_us":%d,"exhausted":%s,"latencies_us":[%s]}\n',
    summary.requests - e.status, errors, summary.duration, ended == 1 and "true" or "false",
    table.concat(counts, ",")))
end
