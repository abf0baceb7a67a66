# One function for each capture of ordinary use, which must stay silent. Sourced by record.sh.

# A few dozen clients that come and go.
capture_benign_http_clients() {
  begin benign_http_clients v-attacker 96 1000
  local n
  for n in $(seq 1 20); do
    in_attacker curl -sf -o /dev/null --next -o /dev/null http://$victim_v4/ "http://$victim_v4/page$n"
    sleep 0.03
  done
  in_attacker ab -q -k -n 60 -c 5 http://$victim_v4/ >/dev/null
  finish - - "$version_of_curl, $version_of_ab -k, $version_of_nginx"
}

# The first packets of a download at link speed.
capture_benign_download() {
  ip netns exec "$attacker" timeout 10 iperf3 -s -1 >/dev/null 2>&1 &
  started+=($!)
  sleep 0.5
  begin benign_download v-attacker 64 600
  in_victim iperf3 -c 10.99.0.1 -R -t 1 -b 100M >/dev/null
  finish - - "$version_of_iperf3 -R"
}

# The victim asks real servers for names.
capture_benign_dns_client() {
  seq -f 'host%g.example.com A' 1 200 >"$work/names"
  begin benign_dns_client v-reflector 128 1000
  in_victim dnsperf -a $victim_v4 -s 198.51.100.7 -d "$work/names" -c 4 -Q 50 -l 2 >/dev/null
  in_victim kdig +short -b $victim_v4 @198.51.100.9 example.com TXT +bufsize=4096 >/dev/null
  finish - - "$version_of_dnsperf, kdig, $version_of_knot"
}

# Page loads over TLS, one connection kept.
capture_benign_tls_session() {
  begin benign_tls_session v-attacker 128 600
  in_attacker curl -skf -o /dev/null -o /dev/null -o /dev/null "https://$victim_v4/[1-3]"
  sleep 0.5
  in_attacker curl -skf -o /dev/null "https://$victim_v4/again"
  finish - - "$version_of_curl, $version_of_nginx"
}

# The victim asks for the time, from servers that answer.
capture_benign_ntp_client() {
  begin benign_ntp_client v-reflector 128 200
  local n
  for n in 1 2 3; do in_victim ntpdig -t 1 -s 1 198.51.100.1 198.51.100.2 198.51.100.3 198.51.100.4 >/dev/null 2>&1 || true; done
  finish - - "ntpdig, $version_of_ntpd"
}
