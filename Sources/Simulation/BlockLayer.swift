import MigrationEngine
import QMP

/// What reaches QEMU's block layer over the network. Connections are numbered by the client's QEMU.
public enum BlockInput: Sendable {
  // As a client.
  case connected(connection: Int)
  /// No server, or no such export; the text is QEMU's.
  case refused(connection: Int, String)
  case replied(connection: Int, request: Int, succeeded: Bool)
  // As either.
  case ended(connection: Int)
  // As a server.
  case clientConnected(connection: Int, export: String)
  case requested(connection: Int, request: Int, NBDRequest)
}

/// What QEMU's block layer sends over the network.
public enum BlockEffect: Sendable {
  case connect(connection: Int, path: String, export: String)
  case request(connection: Int, request: Int, NBDRequest)
  case accept(connection: Int)
  case refuse(connection: Int, String)
  case reply(connection: Int, request: Int, succeeded: Bool)
  case close(connection: Int)
}

/// One request of an NBD client.
public enum NBDRequest: Hashable, Sendable {
  case write(sector: Int, number: UInt64)
  case flush
}

/// The disks of one QEMU, the nodes and jobs that it was given, and its NBD server.
struct BlockLayer: Sendable {
  /// Bytes that one numbered sector stands for.
  static let sectorBytes = 65536

  struct Node: Sendable {
    var name: String
    /// Position among the machine's disks; nil for an NBD node.
    var disk: Int?
    var connection: Int?
    /// The NBD connection stands.
    var isOpen = true
    /// Made by `drive-mirror`, and gone with its job.
    var belongsToJob = false
    var sectors: Int
  }

  /// Why a request is on its way.
  enum Purpose: Hashable, Sendable {
    case copy(job: Int, sector: Int)
    case guestWrite(job: Int, SimulatedGuest.Write)
    /// At the end of a job that ends in sync.
    case lastFlush(job: Int)
    /// QEMU's own flush of all nodes at STOP.
    case drain
  }

  struct Request: Sendable {
    var number: Int
    var connection: Int
    var purpose: Purpose
  }

  struct Export: Sendable {
    var id: String
    var name: String
    var node: String
    var isWritable: Bool
  }

  /// A `blockdev-add` or `drive-mirror` that waits for its connection.
  struct Opening: Sendable {
    var connection: Int
    var node: Node
    var client: Int?
    var request: QMPRequest
    /// The job that `drive-mirror` then starts.
    var job: MirrorJob?
  }

  /// Whether it may write to its disks: a target's are inactive until the load.
  var isActive = false
  var nodes: [Node]
  var jobs: [MirrorJob] = []
  var requests: [Request] = []
  var opening: Opening?
  var exports: [Export] = []
  /// Where the NBD server listens; nil: it does not run.
  var serverPath: String?
  /// Connections that clients have to our server, and the export of each.
  var served: [(connection: Int, export: String)] = []
  /// A guest's write that mirrors hold up, and how many of them still do.
  var heldWrites: [(write: SimulatedGuest.Write, waitingFor: Int)] = []
  /// The guest stands, and the switchover waits for the drain.
  var isDraining = false
  /// A flush of the drain failed.
  var drainFailed = false
  var lastConnection = 0
  var lastRequest = 0
  var lastJob = 0
  /// Writes that came from outside while the guest ran here; for observers.
  var outsideWritesWhileRunning = 0

  init(_ disks: [DiskAttachment], sizes: [Int]) {
    nodes = disks.indices.map {
      Node(name: disks[$0].node, disk: $0, sectors: sizes[$0])
    }
  }
}

/// One mirror.
struct MirrorJob: Sendable {
  enum Status: String, Sendable {
    case created, running, ready, standby, waiting, pending, aborting, concluded
    case null

    var isOver: Bool { self == .concluded || self == .null }
  }

  var number: Int
  var id: String
  var disk: Int
  var target: String
  var isWriteBlocking: Bool
  var dismissesItself: Bool
  var status = Status.created
  /// Sectors that are still to be copied.
  var dirty: [Bool]
  var copied = 0
  var speed: Int64
  var error: String?
  /// A cancel that is under way.
  var endsSoftly = false
  var endsByForce = false
  var isFlushing = false
  var hasFailed = false
  var isCopying = false

  var dirtyCount: Int { dirty.reduce(0) { $0 + ($1 ? 1 : 0) } }
  var isInSync: Bool { dirtyCount == 0 }
  var isLive: Bool { status == .running || status == .ready }
}
