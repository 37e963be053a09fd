import CSwitchover
import Glibc
import QEMUHarness
import Testing

extension RealQEMUs {
  @Suite("A migration over inherited descriptors")
  struct Descriptors {
    @Test("its monitors are sockets that somebody else connected", arguments: QEMUVersion.allCases)
    func monitors(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let sockets = try Side.allCases.map {
        try ConnectedSocket(path: situation.pair.process($0).monitorPaths[0])
      }
      let migration = try situation.migration(.SWO_HAND_OVER_BEFORE_RESUME) {
        $0.sourceMonitor = "fd:\(sockets[0].descriptor)"
        $0.targetMonitor = "fd:\(sockets[1].descriptor)"
        $0.sourceEnd = .SWO_SOURCE_QUIT
      }
      try migration.start()
      // The library has its own copies.
      for socket in sockets { socket.close() }
      try migration.pumpUntilHandOverIsWanted()
      try migration.handedOver(.SWO_HAND_OVER_DONE)
      situation.expect(try migration.finish(), .completed(nextStep: ""))
      situation.expectExit(of: .source, .exited(status: 0))
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn()
    }

    @Test(
      "such a monitor cannot be had again: its loss is told, and who owns the guest",
      arguments: QEMUVersion.allCases)
    func lostMonitor(version: QEMUVersion) throws {
      let situation = try Situation(version, Situation.busyGuest)
      let relay = try situation.monitorRelay(to: .target)
      let socket = try ConnectedSocket(path: situation.directory.file("target-monitor-relay.sock"))
      let migration = try situation.migration(.SWO_HAND_OVER_NONE) {
        Situation.slow(&$0)
        $0.targetMonitor = "fd:\(socket.descriptor)"
      }
      try situation.startTransfer(migration)
      relay.cut()
      let outcome = try migration.finish()
      #expect(outcome.end == .SWO_END_FAILED, "\(outcome)")
      #expect(outcome.owner == .SWO_OWNER_SOURCE, "\(outcome)")
      #expect(outcome.guest == .SWO_GUEST_RUNNING, "\(outcome)")
      #expect(outcome.failure?.code == .SWO_FAILURE_MONITOR_LOST, "\(outcome)")
      #expect(outcome.failure?.side == .SWO_SIDE_TARGET, "\(outcome)")
      situation.expectExit(of: .target, .exited(status: 1))
      situation.expectSourceUnharmed()
    }

    @Test("RAM travels over a socket pair that both were passed", arguments: QEMUVersion.allCases)
    func uri(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let wire = try SocketPair()
      try passed(wire.first, as: "wire", to: situation.source)
      try passed(wire.second, as: "wire", to: situation.target)
      wire.close()
      let migration = try situation.migration(.SWO_HAND_OVER_NONE) { $0.uri = "fd:wire" }
      situation.expect(try migration.run(), .completed())
      #expect(migration.warnings == [])
      situation.expectGuestRuns(on: .target)
      situation.expectNothingLeftOn()
    }

    @Test("a descriptor that the source was not passed", arguments: QEMUVersion.allCases)
    func missing(version: QEMUVersion) throws {
      let situation = try Situation(version)
      let migration = try situation.migration(.SWO_HAND_OVER_NONE) {
        $0.uri = "fd:nothing"
        $0.incomingURI = situation.pair.migrationAddress
      }
      let failure = Outcome.Failure(
        .SWO_FAILURE_COMMAND, .SWO_SIDE_SOURCE, command: "migrate", errorClass: "GenericError",
        text: "source refused 'migrate': File descriptor named 'nothing' has not been found")
      situation.expect(try migration.run(), .failed(failure, nextStep: Outcome.endTarget))
      situation.expectSourceUnharmed()
    }

    /// Passes a descriptor over the monitor that the migration will use, and lets go of that.
    private func passed(_ descriptor: Int32, as name: String, to process: QEMUProcess) throws {
      let client = try QMPClientUnderTest("unix:\(process.monitorPaths[0])")
      try client.pass(descriptor, as: name)
    }
  }
}

/// A unix socket that the test has connected.
final class ConnectedSocket {
  private(set) var descriptor: Int32

  init(path: String) throws {
    descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    let size = socklen_t(MemoryLayout<sockaddr_un>.size)
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, size) }
    }
    try #require(result == 0)
  }

  deinit { close() }

  func close() {
    if descriptor >= 0 { Glibc.close(descriptor) }
    descriptor = -1
  }
}

/// Two sockets that lead to each other.
final class SocketPair {
  private var descriptors: [Int32] = [-1, -1]

  init() throws {
    try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &descriptors) == 0)
  }

  deinit { close() }

  var first: Int32 { descriptors[0] }
  var second: Int32 { descriptors[1] }

  func close() {
    for index in 0...1 {
      if descriptors[index] >= 0 { Glibc.close(descriptors[index]) }
      descriptors[index] = -1
    }
  }
}
