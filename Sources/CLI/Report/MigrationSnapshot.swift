import CSwitchover

/// What is known of a migration at one moment: values only, so that everything printed from it is
/// the same wherever it comes from.
struct MigrationSnapshot: Equatable {
  var phase: Word
  var end: Word
  var owner: Word
  var guest: Word
  var figures = Figures()
  /// How far the local disks have got.
  var disks: [DiskFigures] = []
  /// Empty before the end.
  var ledger: [LedgerPart] = []
  var failure: FailureReport?
  /// The path of the journal, if there is one.
  var journal: String?
  /// One sentence, or empty.
  var nextStep = ""
  /// All of it in one line, by the library.
  var summary = ""

  var exitStatus: ExitStatus { ExitStatus(end: end.code, owner: owner.code) }
  var isCompleted: Bool { end.code == swo_end.SWO_END_COMPLETED.number }

  func isIn(_ phase: swo_phase) -> Bool { self.phase.code == phase.number }

  /// Whether recovery has something to settle.
  var hasNoOwner: Bool { exitStatus == .ownerUnknown || exitStatus == .nobodyOwns }
}

/// A value of one of the library's enumerations with its English name.
struct Word: Equatable {
  var code: Int32
  var name: String
}

/// Why a migration did not complete.
struct FailureReport: Equatable {
  /// One of `swo_failure`.
  var code: Int32
  var name: String
  /// "source", "target" or nil.
  var side: String?
  var command = ""
  var errorClass = ""
  var text: String
}

/// How far a local disk has got.
struct DiskFigures: Equatable {
  var device: String
  var copiedBytes: UInt64
  /// 0 while it is not known; grows with what the guest writes.
  var totalBytes: UInt64

  var remainingBytes: UInt64 { totalBytes - min(copiedBytes, totalBytes) }
  var isCopied: Bool { totalBytes > 0 && remainingBytes == 0 }
}

/// A stretch of the blackout.
struct LedgerPart: Equatable {
  var name: String
  /// Microseconds after the source's STOP.
  var startMicroseconds: Int64
  var lengthMicroseconds: Int64
}

/// The figures of a migration, by the library's numbers.
enum Figure: Int32, CaseIterable {
  case ramTotalBytes = 1
  case ramTransferredBytes = 2
  case ramRemainingBytes = 3
  case rateBytesPerSecond = 4
  case pass = 5
  case dirtyBytesPerSecond = 6
  case downtimeLimitMilliseconds = 7
  case predictedBlackoutMicroseconds = 8
  case qemuDowntimeMilliseconds = 9
  case blackoutMicroseconds = 10
  case blackoutErrorMicroseconds = 11
  case totalTimeMilliseconds = 12

  /// The name in machine-readable output, which never changes.
  var jsonName: String {
    switch self {
    case .ramTotalBytes: "ram_total_bytes"
    case .ramTransferredBytes: "ram_transferred_bytes"
    case .ramRemainingBytes: "ram_remaining_bytes"
    case .rateBytesPerSecond: "rate_bytes_per_second"
    case .pass: "pass"
    case .dirtyBytesPerSecond: "dirty_bytes_per_second"
    case .downtimeLimitMilliseconds: "downtime_limit_ms"
    case .predictedBlackoutMicroseconds: "predicted_blackout_us"
    case .qemuDowntimeMilliseconds: "qemu_downtime_ms"
    case .blackoutMicroseconds: "blackout_us"
    case .blackoutErrorMicroseconds: "blackout_error_us"
    case .totalTimeMilliseconds: "total_time_ms"
    }
  }
}

/// The figures that are known.
struct Figures: Equatable {
  private var values: [Figure: UInt64] = [:]

  init() {}

  subscript(_ figure: Figure) -> UInt64? {
    get { values[figure] }
    set { values[figure] = newValue }
  }
}
