import CSwitchover

/// How a migration ended, as the C interface tells it.
struct Outcome: Equatable {
  /// What went wrong.
  struct Failure: Equatable {
    var code: swo_failure
    var side = swo_side.SWO_SIDE_NONE
    var command = ""
    var errorClass = ""
    var text: String

    init(
      _ code: swo_failure, _ side: swo_side = .SWO_SIDE_NONE, command: String = "",
      errorClass: String = "", text: String
    ) {
      (self.code, self.side, self.text) = (code, side, text)
      (self.command, self.errorClass) = (command, errorClass)
    }
  }

  var end: swo_end
  var owner: swo_owner
  var guest: swo_guest
  var failure: Failure?
  var nextStep = ""

  /// What is left to do where the source's QEMU was kept.
  static let endSource = "end the source's QEMU: it must not be resumed"
  /// What is left to do while a target lives that nobody needs any more.
  static let endTarget = "end the target's QEMU before trying again"

  /// What is left to do after a guest was lost.
  static let startAfresh =
    "the guest died with its QEMU: start it afresh on the source, and end the target's QEMU"

  /// The target owns the guest.
  static func completed(
    _ guest: swo_guest = .SWO_GUEST_RUNNING, nextStep: String = endSource
  ) -> Outcome {
    Outcome(
      end: .SWO_END_COMPLETED, owner: .SWO_OWNER_TARGET, guest: guest, nextStep: nextStep)
  }

  /// The guest is where it was.
  static func failed(
    _ failure: Failure, _ guest: swo_guest = .SWO_GUEST_RUNNING, nextStep: String = ""
  ) -> Outcome {
    Outcome(
      end: .SWO_END_FAILED, owner: .SWO_OWNER_SOURCE, guest: guest, failure: failure,
      nextStep: nextStep)
  }

  /// Cancelled, with the guest where it was.
  static func cancelled(
    _ guest: swo_guest = .SWO_GUEST_RUNNING, nextStep: String = ""
  ) -> Outcome {
    Outcome(end: .SWO_END_CANCELLED, owner: .SWO_OWNER_SOURCE, guest: guest, nextStep: nextStep)
  }
}

extension Outcome {
  /// Reads everything from a migration.
  init(of migration: OpaquePointer?) {
    end = swo_end(rawValue: UInt32(bitPattern: swo_migration_end(migration))) ?? .SWO_END_NONE
    owner =
      swo_owner(rawValue: UInt32(bitPattern: swo_migration_owner(migration))) ?? .SWO_OWNER_UNKNOWN
    guest =
      swo_guest(rawValue: UInt32(bitPattern: swo_migration_guest(migration))) ?? .SWO_GUEST_UNKNOWN
    let code = swo_failure(rawValue: UInt32(bitPattern: swo_migration_failure(migration)))
    if let code, code != .SWO_FAILURE_NONE {
      let side = swo_side(rawValue: UInt32(bitPattern: swo_migration_failure_side(migration)))
      failure = Failure(
        code, side ?? .SWO_SIDE_NONE,
        command: String(cString: swo_migration_failure_command(migration)),
        errorClass: String(cString: swo_migration_failure_class(migration)),
        text: String(cString: swo_migration_failure_text(migration)))
    }
    nextStep = String(cString: swo_migration_next_step(migration))
  }
}

extension Outcome: CustomStringConvertible {
  var description: String {
    var words = [
      String(cString: swo_end_name(Int32(end.rawValue))),
      "owner \(String(cString: swo_owner_name(Int32(owner.rawValue))))",
      "guest \(String(cString: swo_guest_name(Int32(guest.rawValue))))",
    ]
    if let failure { words.append("\(failure)") }
    words.append("next \"\(nextStep)\"")
    return words.joined(separator: ", ")
  }
}

extension Outcome.Failure: CustomStringConvertible {
  var description: String {
    let side = ["", " source", " target"][Int(min(side.rawValue, 2))]
    return "\(String(cString: swo_failure_name(Int32(code.rawValue))))\(side) "
      + "'\(command)' (\(errorClass)): \"\(text)\""
  }
}
