-- wrk's side of perf/bench: sends the requests of a file in turn, and prints what it saw as one line of JSON.
-- A line of the file is a path to GET, or, if `post=` is given, a text to POST there.
--   wrk … -s requests.lua http://127.0.0.1:PORT -- FILE [POST_PATH]

local requests, following = {}, 0

function init(arguments)
  local post_path = arguments[2]
  for line in io.lines(arguments[1]) do
    if post_path then
      requests[#requests + 1] = wrk.format("POST", post_path, { ["Content-Type"] = "text/plain" }, line)
    else
      requests[#requests + 1] = wrk.format("GET", line)
    end
  end
  -- Threads do not start in step.
  following = math.random(#requests)
end

function request()
  following = following % #requests + 1
  return requests[following]
end

function done(summary, latency)
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    'RESULT {"requests": %d, "seconds": %.6f, "broken": %d, "refused": %d, "p50_us": %d, "p99_us": %d}\n',
    summary.requests, summary.duration / 1e6, broken, errors.status, latency:percentile(50), latency:percentile(99)))
end
