#!/usr/bin/env bash
# Loads the gateway on loopback and holds what comes back against what was sent: nothing missing,
# doubled or out of order, every connection counted, a drain that tells everybody.
#
# The load generator numbers its messages and fails on any of these itself; its figures are in
# target/load/. The gateway is $RINGWAY; ringway-loadtest lies beside it.
set -uo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

gateway=${RINGWAY:-$PWD/target/debug/ringway}
generator=$(dirname -- "$gateway")/ringway-loadtest
out=target/load
mkdir -p "$out"
rm -f "$out"/*.json

# Each process holds a descriptor for every connection.
files=$(ulimit -Hn)
[ "$files" != unlimited ] || files=1000000
many=$((files - 2000 < 15000 ? files - 2000 : 15000))
if ((many < 2000)); then
  echo "skipped: 4000 open files are needed, the hard limit is $files"
  exit 0
fi
few=2000
config=config/bench.toml

pid=
passed=0
failed=0
trap '[ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null' EXIT

# start NAME [ARGUMENT…]: sets `pid`, and `clients` and `operators` to the addresses that it chose.
start() {
  local name=$1 tries=100
  shift
  log=$out/$name.log
  : >"$log"
  "$gateway" run --config "$config" --set 'listener.0.address=127.0.0.1:0' \
    --set 'operator.address=127.0.0.1:0' "$@" 2>"$log" &
  pid=$!
  until grep -q ' serving ' "$log"; do
    if ((tries-- == 0)) || ! kill -0 "$pid" 2>/dev/null; then
      cat "$log"
      echo "the gateway did not start"
      echo "$passed passed, $((failed + 1)) failed"
      exit 1
    fi
    sleep 0.1
  done
  clients=$(sed -n 's/.*clients may connect address=//p' "$log")
  operators=$(sed -n 's/.*operators may connect address=//p' "$log")
}

# stop: SIGTERM; leaves the exit status in `status`.
stop() {
  kill -TERM "$pid"
  wait "$pid"
  status=$?
  pid=
}

# metric NAME: the sum over all its labels.
metric() {
  curl --silent --fail --max-time 5 "http://$operators/metrics" |
    awk -v name="$1" '$1 == name || index($1, name "{") == 1 { sum += $2 } END { printf "%d", sum }'
}

# until_is NAME VALUE: waits 20 seconds for a metric to have that value.
until_is() {
  local tries=200 value
  until value=$(metric "$1") && ((value == $2)); do
    if ((tries-- == 0)); then
      echo "$1 is $value, not $2"
      return 1
    fi
    sleep 0.1
  done
}

# check WHAT COMMAND…
check() {
  local what=$1 since=$SECONDS
  shift
  if "$@"; then
    passed=$((passed + 1))
    echo "ok      $what ($((SECONDS - since)) s)"
  else
    failed=$((failed + 1))
    echo "FAILED  $what"
  fi
}

# load NAME ARGUMENT…: one run of the generator.
load() {
  local name=$1
  shift
  "$generator" "$@" --addr "$clients" --server-pid "$pid" --json "$out/$name.json" \
    >"$out/$name.txt" 2>"$out/$name.progress" && return
  tail -n 3 "$out/$name.progress"
  cat "$out/$name.txt"
  return 1
}

# Everybody has left: each was counted closed once, and nothing is kept for anybody.
books_balance() {
  until_is ringway_connections 0 && until_is ringway_outbox_bytes 0 &&
    until_is ringway_subscriptions 0 && until_is ringway_closed_total "$(metric ringway_opened_total)"
}

start load
check "$many subscribers of one topic" \
  load fanout-one fanout --subscribers "$many" --rate 5 --secs 3
check "$many subscribers of 500 topics" \
  load fanout-many fanout --subscribers "$many" --topics 500 --publishers 500 --rate 2000 --secs 3
check "$few Centrifugo subscribers of one topic" \
  load fanout-centrifuge fanout --protocol centrifuge --subscribers "$few" --rate 20 --secs 3
check 'echo on 1000 connections' load echo echo --connections 1000 --depth 4 --secs 2
check 'connections that come and go' load churn churn --connections 64 --secs 2
check 'the books balance' books_balance

# expect NAME CODE ARGUMENT…: half of the connections, to be closed with CODE.
expect() {
  local name=$1 code=$2
  shift 2
  load "$name" idle --connections $((few / 2)) --expect-close "$code" --secs 60 "$@" &
}

drained() {
  local begin raw centrifuge took status
  expect drain-raw 1012
  raw=$!
  expect drain-centrifuge 3001 --protocol centrifuge
  centrifuge=$!
  until_is ringway_subscriptions "$few" || return
  begin=$(date +%s%N)
  stop
  took=$((($(date +%s%N) - begin) / 1000000))
  wait "$raw" || return
  wait "$centrifuge" || return
  echo "        exit status $status after $took ms"
  # The grace, and closes spread over most of the window; not the wait for those who do not answer.
  ((status == 0 && took > 2000 && took < 8000))
}

# labelled NAME LABELS: one series of a metric.
labelled() {
  curl --silent --fail --max-time 5 "http://$operators/metrics" |
    awk -v series="$1{$2}" 'index($0, series " ") == 1 { sum = substr($0, length(series) + 2) }
      END { printf "%d", sum }'
}

# figure NAME KEY: a whole number from a result of the generator.
figure() { sed -n "s/.*\"$2\": *\([0-9]*\).*/\1/p" "$out/$1.json"; }

# Some read everything that is published, 400 times a second to one of 200 topics and twice a second
# to all; others have joined as well and never read. They are closed as slow, for which the others
# do not wait, and the memory budget is kept to without anything being done about it: nobody is refused
# or shed. Scaled down unless RINGWAY_FULL is set.
slow_among_others() {
  local scale=5 stall=2s
  if [ -n "${RINGWAY_FULL-}" ]; then scale=1 stall=10s; fi
  local stalled=$((500 / scale)) readers=$((many / scale)) topics=$((200 / scale)) secs=$((60 / scale))
  local budget=$((128 * 1048576))
  start slow --set 'websocket.message_bytes_max=64 KiB' --set 'outbox.bytes_max=1 MiB' --set 'outbox.soft_bytes_max=256 KiB' \
    --set "outbox.stall_timeout=$stall" --set 'socket.send_buffer=64 KiB' \
    --set "memory.budget=$budget B"
  local slow status peak=0 used=0 level=0 now p99 memory
  load slow-readers fanout --protocol centrifuge --subscribers "$readers" --topics "$topics" \
    --publishers "$topics" --rate $((2 * topics)) --rate-to-all 2 --size 128 \
    --warmup-secs 1 --secs "$secs" --topic slow &
  local reading=$!
  until_is ringway_connections $((readers + topics + 1)) || return
  load slow-stalled stalled --protocol centrifuge --connections "$stalled" --topics "$topics" \
    --subscriptions 40 --topic slow --warmup-secs 0 --secs "$secs" &
  slow=$!
  while kill -0 "$slow" 2>/dev/null; do
    now=$(metric ringway_outbox_bytes)
    if ((now > peak)); then peak=$now; fi
    now=$(metric ringway_memory_used_bytes)
    if ((now > used)); then used=$now; fi
    now=$(metric ringway_memory_level)
    if ((now > level)); then level=$now; fi
    sleep 0.2
  done
  wait "$slow"
  status=$?
  now=$(labelled ringway_closed_total \
    'code="1006",initiator="server",cause="slow_stalled",protocol="centrifuge"')
  now+=" $(metric ringway_outbox_overflows_total) $(labelled ringway_close_sent_total 'code="3008"')"
  if ((status != 0)) || [ "$now" != "$stalled $stalled $stalled" ]; then
    echo "closed as slow, given up, sent a Close: $now of $stalled"
    return 1
  fi
  wait "$reading" || return
  p99=$(figure slow-readers latency_p99_us) memory=$(figure slow-readers server_rss_bytes)
  if ((memory > used)); then used=$memory; fi
  echo "        $stalled closed; p99 of the others $p99 us; $((used / 1024)) KiB of $((budget / 1024)) used" \
    "at most (level $level); $peak bytes queued at most"
  ((p99 < 250000 && used < budget && level == 0 && peak <= stalled * 1048576)) && books_balance
}

# certify NAME: a certificate for localhost that is its own authority.
certify() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost -keyout "$out/$1.key" -out "$out/$1.pem" 2>/dev/null
}

# What TLS carries is checked like the rest; whoever trusts somebody else does not come up.
secured() {
  clients=wss://localhost:${clients##*:}
  load tls-echo echo --connections 200 --depth 4 --secs 2 --tls-ca "$out/own.pem" || return
  load tls-churn churn --connections 16 --secs 1 --tls-insecure || return
  if "$generator" idle --connections 1 --secs 1 --addr "$clients" --tls-ca "$out/other.pem" \
    >"$out/tls-other.txt" 2>&1; then
    echo 'a certificate of another authority was accepted'
    return 1
  fi
  grep -q 'invalid peer certificate' "$out/tls-other.txt"
}

idle_stop() {
  local status
  stop
  ((status == 0))
}

check 'a gateway without clients ends at once' idle_stop
start drain --set drain.grace=200ms --set drain.window=3s
check "$few clients are told of the restart" drained
check 'clients that never read among many that do' slow_among_others
stop
certify own && certify other
{
  cat config/bench.toml
  printf '\n[[certificate]]\nchain = "%s"\nkey = "%s"\n' "$out/own.pem" "$out/own.key"
} >"$out/tls.toml"
config=$out/tls.toml
start tls --set listener.0.tls=true
check 'echo and churn in TLS' secured
stop

for file in "$out"/{churn,echo,fanout}*.json; do
  tr -d '{}"\n' <"$file" | tr ',' '\n' | awk -F : -v name="$(basename "$file" .json)" '
    { value[$1] = $2 }
    END { printf "%-18s %9s %s/s, p50 %s us, p99 %s us, %s us of server CPU each\n", name,
      value["units_per_s"], value["unit"], value["latency_p50_us"], value["latency_p99_us"],
      value["server_cpu_us_per_unit"] }'
done
echo "$passed passed, $failed failed"
((failed == 0))
