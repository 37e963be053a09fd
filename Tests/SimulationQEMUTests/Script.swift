import DemoGuest

/// What is typed at a pair of QEMUs, and what is waited for: data that runs against the simulated
/// pair and against a real one.
struct Script: Sendable, CustomStringConvertible {
  enum Side: String, Sendable { case source, target }

  enum Step: Sendable {
    /// A command with its arguments as JSON; its reply is part of the trace.
    case type(Side, String, String)
    /// Several commands in one write, as JSON objects without `id`.
    case typeTogether(Side, [String])
    case await(Side, event: String, status: String? = nil)
    case awaitRunState(Side, String, or: String? = nil)
    /// The guest on this side does something by itself.
    case guest(Side, GuestCommand)
    case kill(Side)
    /// End of file on the monitor.
    case awaitEnd(Side)
  }

  struct Setup: Sendable {
    var disks = 0
    var targetIsPaused = true
    var targetIsDeferred = false
    /// A device that the target lacks.
    var sourceHasRandomNumberDevice = false
    var targetMemoryMebibytes = 64
    var survivesShutdown = false
    var pausesOnPanic = false
    /// The source's disk 0 fails at one sector, and the guest is stopped by it.
    var hasFaultyDisk = false
  }

  var name: String
  var setup = Setup()
  var steps: [Step]

  var description: String { name }
}

extension Script.Step {
  static func source(_ command: String, _ arguments: String = "{}") -> Self {
    .type(.source, command, arguments)
  }

  static func target(_ command: String, _ arguments: String = "{}") -> Self {
    .type(.target, command, arguments)
  }

  /// The migration capabilities of a side, all on.
  static func capabilities(_ side: Script.Side, _ names: String...) -> Self {
    let list = names.map { "{\"capability\": \"\($0)\", \"state\": true}" }
    return .type(
      side, "migrate-set-capabilities",
      "{\"capabilities\": [\(list.joined(separator: ", "))]}")
  }

  static let events: [Self] = [
    .capabilities(.source, "events"), .capabilities(.target, "events"),
  ]

  /// `MIGRATION` is replaced by the address that the target listens to.
  static let migrate = Self.source("migrate", "{\"uri\": \"MIGRATION\"}")
  static let proceed = Self.source("migrate-continue", "{\"state\": \"pre-switchover\"}")
  /// So slow that the RAM never arrives by itself.
  static let slowly = Self.source("migrate-set-parameters", "{\"max-bandwidth\": 20000}")

  static func migration(_ side: Script.Side, _ status: String) -> Self {
    .await(side, event: "MIGRATION", status: status)
  }

  static func status(_ side: Script.Side) -> Self { .type(side, "query-status", "{}") }
  static func migrationStatus(_ side: Script.Side) -> Self { .type(side, "query-migrate", "{}") }

  /// The target's server, the export and the mirror of one disk, in sync.
  static func mirror(_ extra: String = "") -> [Self] {
    [
      .target(
        "nbd-server-start", "{\"addr\": {\"type\": \"unix\", \"data\": {\"path\": \"STORAGE\"}}}"),
      .target(
        "block-export-add",
        "{\"type\": \"nbd\", \"id\": \"e0\", \"node-name\": \"disk0\", \"writable\": true, \"name\": \"disk0\"}"
      ),
      .source(
        "blockdev-add",
        "{\"driver\": \"nbd\", \"node-name\": \"m0\", \"server\": {\"type\": \"unix\", \"path\": \"STORAGE\"}, \"export\": \"disk0\"}"
      ),
      .source(
        "blockdev-mirror",
        "{\"job-id\": \"mir0\", \"device\": \"disk0\", \"target\": \"m0\", \"sync\": \"full\", \"copy-mode\": \"write-blocking\"\(extra)}"
      ),
      .await(.source, event: "BLOCK_JOB_READY"),
    ]
  }
}
