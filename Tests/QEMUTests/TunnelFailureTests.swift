import CSwitchover
import DemoGuest
import QEMUHarness
import Testing

extension RealQEMUs {
  @Suite("A way by ssh that fails")
  struct TunnelFailures {
    /// What stands against it, and words that the text must have, by carrier where they differ.
    struct Obstacle: Sendable {
      var name: String
      var library: [String]
      var system: [String]
      var options: [String] = []
      var user: String?
      var path: String?
      var loginMilliseconds: UInt32 = 0
      var prepare: @Sendable (TunnelSituation) throws -> Void = { _ in }
      var tidy: @Sendable (TunnelSituation) throws -> Void = { _ in }
    }

    static let obstacles: [Obstacle] = [
      Obstacle(
        name: "nobody listens", library: ["Connection refused"], system: ["Connection refused"],
        options: ["HostName=127.0.0.2"]),
      Obstacle(
        name: "the user is a stranger", library: ["the server accepted no key"],
        system: ["Permission denied"], user: "stranger"),
      Obstacle(
        name: "there is no such socket", library: ["could not connect to /run/nobody.qmp"],
        system: ["could not connect to /run/nobody.qmp", "open failed"], path: "/run/nobody.qmp"),
      Obstacle(
        name: "the server says nothing", library: ["key exchange in time"], system: [],
        loginMilliseconds: 1000, prepare: { $0.relay.setStalled(true) },
        tidy: {
          $0.relay.setStalled(false)
          $0.relay.cut()
        }),
      Obstacle(
        name: "the server says it too slowly", library: ["in time"], system: [],
        loginMilliseconds: 1000,
        prepare: { $0.relay.change(.backward) { $0.bytesPerSecond = 500 } },
        tidy: {
          $0.relay.change(.backward) { $0.bytesPerSecond = nil }
          $0.relay.cut()
        }),
      Obstacle(
        name: "the connection ends", library: ["connection"], system: ["Connection"],
        prepare: { $0.relay.setRefusing(true) }, tidy: { $0.relay.setRefusing(false) }),
      Obstacle(
        name: "the program is missing", library: ["could not be started"],
        system: ["could not be started"], options: ["missing"]),
      Obstacle(
        name: "the command lets any key pass", library: ["StrictHostKeyChecking"],
        system: ["StrictHostKeyChecking"], options: ["StrictHostKeyChecking=accept-new"]),
      Obstacle(
        name: "no key is known", library: ["no known key of", "SHA256:"],
        system: ["Host key verification failed"],
        prepare: { try $0.server.forgetHostKeys() }, tidy: { _ in }),
      Obstacle(
        name: "the key has changed", library: ["known_hosts", "line 1", "SHA256:"],
        system: ["Offending", "known_hosts:1", "Host key verification failed"],
        prepare: { try $0.server.makeHostKeyStrange() }, tidy: { _ in }),
    ]

    /// One pair for all of them: each leaves the source untouched, so that the next can begin.
    @Test("leaves the source alone, and says why", arguments: carriers)
    func obstacles(carrier: swo_ssh_carrier) throws {
      let situation = try TunnelSituation()
      for obstacle in Self.obstacles {
        try obstacle.prepare(situation)
        try expectRefusal(situation, carrier, obstacle)
        try obstacle.tidy(situation)
        #expect(situation.sshChildren() == [], "\(obstacle.name)")
      }
      situation.base.expectSourceUnharmed()
    }

    private func expectRefusal(
      _ situation: TunnelSituation, _ carrier: swo_ssh_carrier, _ obstacle: Obstacle
    ) throws {
      let isMissing = obstacle.options == ["missing"]
      let migration = try situation.migration(
        carrier, options: isMissing ? [] : obstacle.options
      ) { settings in
        if isMissing { settings.ssh?.command = ["/nonexistent/ssh"] }
        settings.ssh?.loginMilliseconds = obstacle.loginMilliseconds
        let path = obstacle.path ?? situation.base.target.monitorPaths[0]
        settings.targetMonitor = "ssh://\(obstacle.user.map { $0 + "@" } ?? "")127.0.0.1\(path)"
      }
      let text: String
      do {
        try migration.start()
        let outcome = try migration.finish()
        #expect(outcome.end == .SWO_END_FAILED, "\(obstacle.name): \(outcome)")
        #expect(outcome.owner == .SWO_OWNER_SOURCE)
        #expect(outcome.failure?.code == .SWO_FAILURE_MONITOR_UNREACHABLE)
        #expect(outcome.failure?.side == .SWO_SIDE_TARGET)
        text = migration.summary
      } catch let error as HarnessError {
        // What is wrong before anything is connected is said by the start itself.
        text = error.description
      }
      let words =
        switch carrier {
        case .SWO_SSH_LIBSSH2: obstacle.library
        case .SWO_SSH_SYSTEM: obstacle.system
        default: obstacle.library + (obstacle.path == nil ? obstacle.system : [])
        }
      for word in words { #expect(text.contains(word), "\(obstacle.name): \(text)") }
      #expect(!text.contains("BEGIN OPENSSH"))
    }

    @Test("is said where the server forbids forwarding", arguments: carriers)
    func forbidden(carrier: swo_ssh_carrier) throws {
      var options = SSHServer.Options()
      options.lines = ["AllowStreamLocalForwarding no"]
      let situation = try TunnelSituation(server: options)
      let migration = try situation.migration(carrier)
      let outcome = try migration.run()
      #expect(outcome.end == .SWO_END_FAILED && outcome.owner == .SWO_OWNER_SOURCE)
      #expect(migration.summary.contains("the server could not connect to"))
      situation.base.expectSourceUnharmed()
      situation.expectNothingLeft(of: migration)
    }

    @Test("is said where the program may open no session")
    func noSession() throws {
      var options = SSHServer.Options()
      options.lines = ["MaxSessions 0"]
      let situation = try TunnelSituation(server: options)
      let migration = try situation.migration(.SWO_SSH_SYSTEM)
      let outcome = try migration.run()
      #expect(outcome.end == .SWO_END_FAILED && outcome.owner == .SWO_OWNER_SOURCE)
      #expect(migration.summary.contains("ssh "), "\(migration.summary)")
      situation.base.expectSourceUnharmed()
      situation.expectNothingLeft(of: migration)
    }

    @Test("can be given up while it is opened", arguments: carriers)
    func cancelled(carrier: swo_ssh_carrier) throws {
      let situation = try TunnelSituation()
      situation.relay.setStalled(true)
      let migration = try situation.migration(carrier)
      try migration.start()
      try migration.pump { _ in situation.relay.connections > 0 }
      #expect(migration.phase == .SWO_PHASE_IDLE)
      #expect(migration.cancel().code == .SWO_OK)
      // Nobody was asked, so nobody knows whether the guest runs.
      situation.base.expect(
        try migration.finish(), .cancelled(.SWO_GUEST_UNKNOWN), .cancelled())
      situation.relay.setStalled(false)
      situation.base.expectSourceUnharmed()
      situation.expectNothingLeft(of: migration)
    }
  }
}
