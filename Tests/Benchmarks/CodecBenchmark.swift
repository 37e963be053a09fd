import CBenchmarks
import Glibc
import QMP

/// How fast messages go through a session, and what they allocate.
struct CodecBenchmark {
  private static let event =
    "{\"timestamp\": {\"seconds\": 1700000000, \"microseconds\": 123456}, \"event\": \"MIGRATION\", "
    + "\"data\": {\"status\": \"active\"}}\r\n"

  /// What QEMU answers while RAM travels, without the id.
  static let report =
    "{\"return\": {\"status\": \"active\", \"setup-time\": 1, \"total-time\": 1023, \"expected-downtime\": 300, "
    + "\"ram\": {\"total\": 134750208, \"postcopy-requests\": 0, \"dirty-sync-count\": 2, "
    + "\"multifd-bytes\": 0, \"pages-per-second\": 32000, \"downtime-bytes\": 0, \"page-size\": 4096, "
    + "\"remaining\": 1048576, \"postcopy-bytes\": 0, \"mbps\": 569.105, \"transferred\": 767099, "
    + "\"dirty-sync-missed-zero-copy\": 0, \"precopy-bytes\": 767099, \"duplicate\": 32700, "
    + "\"dirty-pages-rate\": 100, \"skipped\": 0, \"normal-bytes\": 471040, \"normal\": 115}}, \"id\": "

  func run() {
    print("\nQMP session, one message after another")
    measure("MIGRATION event", count: 200_000) { _, session, notices in
      feed(Self.event, &session, &notices)
    }
    measure("query-migrate and its reply", count: 50_000) { index, session, notices in
      _ = try? session.execute("query-migrate", deadlineNanoseconds: nil)
      _ = session.takeOutput()
      feed(Self.report + "\(index + 1)}\r\n", &session, &notices)
    }
  }

  private func measure(
    _ name: String, count: Int,
    _ body: (Int, inout QMPSession, inout [QMPNotice]) -> Void
  ) {
    var session = QMPSession(wantsOutOfBand: false)
    var notices: [QMPNotice] = []
    feed(
      "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, \"major\": 7}, \"package\": \"\"}, "
        + "\"capabilities\": []}}\r\n", &session, &notices)
    _ = session.takeOutput()
    feed("{\"return\": {}, \"id\": 0}\r\n", &session, &notices)
    let allocations = bench_allocations()
    let start = nanoseconds()
    for index in 0..<count {
      notices.removeAll(keepingCapacity: true)
      body(index, &session, &notices)
    }
    let seconds = Double(nanoseconds() - start) / 1e9
    let perMessage = Double(bench_allocations() - allocations) / Double(count)
    print(
      "  " + pad(name, 44) + pad("\(Int(Double(count) / seconds)) messages/s", 24)
        + "\(fixed(perMessage)) allocations each")
  }

  private func feed(_ text: String, _ session: inout QMPSession, _ notices: inout [QMPNotice]) {
    var text = text
    text.withUTF8 { session.received(UnsafeRawBufferPointer($0), notices: &notices) }
  }
}

func nanoseconds() -> Int64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
}
