import CQEMUHarness
import Foundation
import Glibc

/// A stretch of network between two programs on this machine that a test can make slow or break.
///
/// It listens in one place and forwards every connection to another. What it does to the bytes may
/// be changed at any time and holds for every connection.
public final class Relay: Sendable {
  /// Which way bytes go: from the one who connected to the one who listens, or back.
  public enum Direction: Int, Sendable, CaseIterable {
    case forward
    case backward
  }

  /// What happens to the bytes of one direction.
  public struct Conditions: Sendable {
    /// How long each byte is on its way; half of the round-trip time that is wanted.
    public var delay = Duration.zero
    /// Nothing moves while this is true, and the sender's buffers fill up.
    public var isStalled = false
    /// The most that passes in a second, if limited.
    public var bytesPerSecond: Int?
    /// All connections are cut once so many bytes in all have passed in this direction.
    public var cutAfterBytes: Int?

    public init() {}
  }

  struct State {
    var conditions = [Conditions(), Conditions()]
    var passed = [0, 0]
    var connections = 0
    var cutsWanted = 0
    var cutsDone = 0
    var refusesConnections = false
    var isClosed = false
  }

  /// How many bytes of one direction may be on their way; beyond it the sender waits.
  static let largestQueue = 32 << 20

  /// Where it listens.
  public let endpoint: Endpoint
  let state = Guarded(State())
  /// A pipe that wakes the thread; both ends stay open as long as somebody may write.
  private let wakeEnds: [Int32]
  private let threadEnded = Guarded(false)

  /// Listens at once. A destination that is not there yet is looked for at each connection.
  public init(listeningOn endpoint: Endpoint, forwardingTo destination: Endpoint) throws {
    let listener = endpoint.listen()
    guard listener >= 0 else { throw HarnessError.system("listen on \(endpoint)", code: errno) }
    var ends: [Int32] = [-1, -1]
    guard qemu_harness_pipe(&ends) == 0 else {
      let code = errno
      Glibc.close(listener)
      throw HarnessError.system("pipe", code: code)
    }
    self.endpoint = endpoint.withPort(of: listener)
    wakeEnds = ends
    for end in ends { _ = fcntl(end, F_SETFL, O_NONBLOCK) }
    let (state, threadEnded) = (state, threadEnded)
    let loop = RelayLoop(
      listener: listener, wake: ends[0], listening: endpoint, destination: destination,
      state: state)
    let thread = Thread {
      var loop = loop
      loop.run()
      threadEnded.withLock { $0 = true }
    }
    thread.start()
  }

  deinit {
    close()
    for end in wakeEnds { Glibc.close(end) }
  }

  /// Changes the conditions of one direction.
  public func change(_ direction: Direction, _ body: (inout Conditions) -> Void) {
    state.withLock { body(&$0.conditions[direction.rawValue]) }
    wake()
  }

  /// Changes the conditions of both directions.
  public func change(_ body: (inout Conditions) -> Void) {
    for direction in Direction.allCases { change(direction, body) }
  }

  /// Makes a round trip take so much longer.
  public func setRoundTripTime(_ time: Duration) {
    change { $0.delay = time / 2 }
  }

  /// Stops or starts all movement in both directions.
  public func setStalled(_ isStalled: Bool) {
    change { $0.isStalled = isStalled }
  }

  /// Cuts every connection and returns when they are cut; bytes on their way are lost.
  public func cut() {
    let wanted = state.withLock { state in
      state.cutsWanted += 1
      return state.cutsWanted
    }
    wake()
    _ = state.wait(upTo: .seconds(60)) { $0.cutsDone >= wanted || $0.isClosed ? true : nil }
  }

  /// Lets new connections end at once, or forwards them again.
  public func setRefusing(_ refuses: Bool) {
    state.withLock { $0.refusesConnections = refuses }
    wake()
  }

  /// How many bytes have been delivered in a direction, over all connections.
  public func passedBytes(_ direction: Direction) -> Int {
    state.withLock { $0.passed[direction.rawValue] }
  }

  /// Waits until so many bytes have been delivered in a direction.
  public func waitForBytes(_ count: Int, _ direction: Direction, upTo limit: Duration) -> Bool {
    state.wait(upTo: limit) { $0.passed[direction.rawValue] >= count ? true : nil } ?? false
  }

  /// How many connections are open.
  public var connections: Int {
    state.withLock { $0.connections }
  }

  /// Ends everything and stops listening.
  public func close() {
    state.withLock { $0.isClosed = true }
    wake()
    _ = threadEnded.wait(upTo: .seconds(60)) { $0 ? true : nil }
  }

  private func wake() {
    var byte: UInt8 = 0
    _ = write(wakeEnds[1], &byte, 1)
  }
}
