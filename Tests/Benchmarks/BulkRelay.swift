import CSwitchover
import Glibc
import QEMUHarness

/// Bulk that a loop relays through libssh2 while other things in it are measured.
///
/// Its migration waits for two monitors that say nothing, so that its tunnel stands and nothing else
/// happens.
final class BulkRelay: @unchecked Sendable {
  private let directory: TemporaryDirectory
  private let server: SSHServer
  private let listener: Int32
  private var stream: Int32 = -1
  private var threads: [pthread_t] = []
  private let begin = nanoseconds()
  private var received = 0

  init(_ loop: LoopThread) throws {
    directory = try TemporaryDirectory()
    server = try SSHServer()
    let monitors = ["source", "target"].map(directory.file)
    for monitor in monitors where QEMUHarness.Endpoint.unix(monitor).listen() < 0 {
      throw HarnessError("cannot listen at \(monitor)")
    }
    let receiver = directory.file("receiver")
    listener = QEMUHarness.Endpoint.unix(receiver).listen()
    let entrance = loop.openTunnel(
      source: monitors[0], target: server.address(monitors[1]), uri: "unix:\(receiver)",
      command: server.command())
    stream = QEMUHarness.Endpoint.unix(entrance).connect()
    guard listener >= 0, stream >= 0 else { throw HarnessError("cannot connect to \(entrance)") }
    threads = [startThread(self) { $0.send() }, startThread(self) { $0.receive() }]
  }

  /// Ends it; MB/s.
  func stop() -> Double {
    shutdown(stream, Int32(SHUT_RDWR))
    for thread in threads { pthread_join(thread, nil) }
    close(stream)
    close(listener)
    return Double(received) / (Double(nanoseconds() - begin) / 1000)
  }

  private func send() {
    let piece = [UInt8](repeating: 0x5a, count: 1 << 18)
    while Glibc.send(stream, piece, piece.count, Int32(MSG_NOSIGNAL)) > 0 {}
  }

  private func receive() {
    let end = accept(listener, nil, nil)
    var room = [UInt8](repeating: 0, count: 1 << 18)
    while true {
      let count = read(end, &room, room.count)
      guard count > 0 else { break }
      received += count
    }
    close(end)
  }
}
