/// A capability and the value it is to have.
public struct CapabilitySetting: Hashable, Sendable {
  public var name: String
  public var on: Bool

  public init(name: String, on: Bool) {
    self.name = name
    self.on = on
  }
}

/// A migration parameter and the value it is to have.
public struct ParameterSetting: Hashable, Sendable {
  public var name: String
  public var value: ParameterValue

  public init(name: String, value: ParameterValue) {
    self.name = name
    self.value = value
  }
}

/// A QMP command that the engine may ask for.
public enum Command: Hashable, Sendable {
  case queryStatus
  case queryMigrate
  case queryCapabilities
  case queryParameters
  /// The machine type, from `/machine` in QEMU's object tree.
  case queryMachineType
  case queryMemorySize
  case stop
  case cont
  case quit
  case setCapabilities([CapabilitySetting])
  case setParameters([ParameterSetting])
  case migrate(uri: String)
  case migrateIncoming(uri: String)
  case migrateContinue
  case migrateCancel
  case announceSelf
  // Storage.
  case queryCommands
  case queryBlockNodes
  case queryBlockDevices
  case queryBlockExports
  case queryBlockJobs
  case nbdServerStart(NBDAddress)
  case nbdServerStop
  case blockExportAdd(id: String, node: String, name: String)
  case blockdevAdd(node: String, address: NBDAddress, exportName: String)
  case blockdevDel(node: String)
  case blockdevMirror(
    job: String, device: String, target: String, speed: UInt64, writeBlocking: Bool)
  case driveMirror(
    job: String, device: String, address: NBDAddress, exportName: String, node: String,
    speed: UInt64, writeBlocking: Bool)
  /// Makes a running mirror write-blocking (8.2+).
  case blockJobChange(job: String)
  /// 0: no limit.
  case blockJobSetSpeed(job: String, bytesPerSecond: UInt64)
  case blockJobCancel(job: String, force: Bool)
  case jobDismiss(job: String)
  /// Out of band: breaks the connections of these nodes.
  case yank(nodes: [String])
}

/// What became of a command.
public enum CommandReply: Hashable, Sendable {
  case answered(Answer)
  case refused(Refusal)
  /// The connection ended, or the deadline passed: it may have been carried out or not.
  case lost
}

/// A successful reply, as far as the engine reads it.
public enum Answer: Hashable, Sendable {
  case done
  case runState(RunState)
  case migration(MigrationReport)
  case capabilities([CapabilitySetting])
  case parameters([ParameterSetting])
  case machineType(String)
  case memorySize(bytes: UInt64)
  case commands([String])
  case blockNodes([BlockNodeReport])
  case blockExports([BlockExportReport])
  case blockJobs([BlockJobReport])
  /// A reply without the members that it must have; it decides nothing (I7).
  case unreadable
}

/// QEMU's own error.
public struct Refusal: Hashable, Sendable {
  public var errorClass: String
  public var text: String

  public init(errorClass: String, text: String) {
    self.errorClass = errorClass
    self.text = text
  }
}

/// A block node, or the medium of a drive.
public struct BlockNodeReport: Hashable, Sendable {
  /// The node's name, or the drive's.
  public var name: String
  /// Bytes that the guest sees.
  public var virtualSize: UInt64
  public var isReadOnly: Bool

  public init(name: String, virtualSize: UInt64, isReadOnly: Bool) {
    self.name = name
    self.virtualSize = virtualSize
    self.isReadOnly = isReadOnly
  }
}

/// A block export.
public struct BlockExportReport: Hashable, Sendable {
  public var id: String
  public var type: String
  public var node: String

  public init(id: String, type: String, node: String) {
    self.id = id
    self.type = type
    self.node = node
  }
}

/// The members of `query-migrate` that the engine uses; each may be missing.
public struct MigrationReport: Hashable, Sendable {
  public var status: MigrationStatus = .none
  public var errorDescription: String?
  /// `socket-address` is there: a target that listens.
  public var listens = false
  public var blockedReasons: [String] = []
  public var ramTotalBytes: UInt64?
  public var ramTransferredBytes: UInt64?
  public var ramRemainingBytes: UInt64?
  public var pass: UInt64?
  public var dirtyPagesRate: UInt64?
  public var pageSizeBytes: UInt64?
  public var rateMegabitsPerSecond: Double?
  public var downtimeMilliseconds: UInt64?
  public var totalTimeMilliseconds: UInt64?

  public init() {}
}

/// An event that QEMU sent.
public enum QEMUEvent: Hashable, Sendable {
  case stop
  case resume
  /// `byGuest`: the guest asked for it; otherwise the host did.
  case shutdown(byGuest: Bool)
  case reset
  case suspend
  case wakeup
  case guestPanicked
  case migration(MigrationStatus)
  case migrationPass(UInt64)
  case blockJobReady(job: String)
  /// `error` is QEMU's own text; with it the job failed.
  case blockJobCompleted(job: String, error: String?)
  case blockJobCancelled(job: String)
  case jobStatusChanged(job: String, status: String)
  /// Anything else; it changes nothing (I7).
  case other(String)
}

/// Why a monitor cannot be used.
public enum MonitorTrouble: Hashable, Sendable {
  /// Another client holds it: connected, and no greeting came.
  case busy
  /// Nobody answers; `text` is the last reason.
  case unreachable(text: String)
  /// The other side broke the protocol's rules.
  case protocolViolated(text: String)
  /// Another process answers at its address than the one that this migration knows.
  case stranger
}

/// Something that happened; all in the past tense.
public enum EngineInput: Hashable, Sendable {
  case startRequested
  case cancelRequested
  case handOverReported(HandOverResult)
  case handedBack
  case fenced(Side)
  /// The host program wants another `downtime-limit`, milliseconds.
  case downtimeLimitRequested(Int64)
  /// The monitor greeted and negotiated, for the first time or again.
  case monitorReady(Side, QEMURelease)
  /// The connection is about to be reported as lost, and ended with its process: all that this said
  /// was heard.
  case heardToTheEnd(Side)
  /// The connection ended; its commands in flight are reported as lost after this.
  case monitorLost(Side)
  /// Trying again was given up.
  case monitorUnavailable(Side, MonitorTrouble)
  /// The intent record is durable.
  case intentStored
  /// It cannot be made durable; `text` says why.
  case intentNotStored(text: String)
  /// The out-of-band monitor of a side can be used, or not any more.
  case outOfBandChanged(Side, isReady: Bool)
  /// So many other clients wait at a monitor's listener; nil: nobody can tell.
  case clientsWait(Side, Int?)
  /// The process behind the monitor exited: the kernel says so.
  case processExited(Side)
  /// `roundTrip` is the time from its sending to its reply.
  case replied(Side, Command, CommandReply, roundTrip: Span)
  /// `timestamp` is QEMU's own, microseconds since 1970, nil where it gave none.
  case eventArrived(Side, QEMUEvent, timestamp: Int64?)
  /// A deadline came, or nothing: spurious ones change nothing.
  case timePassed
}

/// Something to be done, at once and in order.
public enum EngineEffect: Hashable, Sendable {
  /// Send a command; its reply, or its loss, comes back as `replied`.
  case send(Command, to: Side)
  /// The same through the side's out-of-band monitor.
  case sendOutOfBand(Command, to: Side)
  case phaseChanged(MigrationPhase)
  case progressed
  case handOverWanted
  /// Make the intent durable; `intentStored` or `intentNotStored` follows.
  case storeIntent
  /// Close a side's monitor, so that others can use it.
  case letGo(of: Side)
  /// Open it again.
  case attach(Side)
  /// Find out who waits at a monitor's listener; `clientsWait` follows.
  case countWaiting(Side)
  case warn(String)
  case log(String)
  /// Both monitors may be let go of; nothing follows.
  case finished
}
