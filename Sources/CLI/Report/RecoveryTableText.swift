import CSwitchover

/// The recovery table, as text.
enum RecoveryTableText {
  typealias Row = [swo_recovery_column: String]

  /// Columns of a line.
  private static let width = 80

  static let preamble = """
    The first row that matches counts. A dimension that is not named may have any
    value. 'never ran' and 'may have run' tell whether the guest can have run on the
    target before now; 'ran' and 'stood', whether it ran before the migration.
    """

  static func lines(_ rows: [Row]) -> [String] {
    var lines = preamble.split(separator: "\n").map(String.init)
    for (number, row) in rows.enumerated() {
      lines.append("")
      lines.append("\(number + 1). \(row[.SWO_RECOVERY_COLUMN_RULE] ?? "")")
      lines += wrapped("when: ", conditions(row))
      lines += wrapped("then: ", conclusion(row))
      lines += wrapped("for:  ", row[.SWO_RECOVERY_COLUMN_MEANING] ?? "")
      if let toDo = row[.SWO_RECOVERY_COLUMN_TO_DO], !toDo.isEmpty {
        lines += wrapped("next: ", toDo)
      }
      if let words = row[.SWO_RECOVERY_COLUMN_WORDS], !words.isEmpty {
        lines += wrapped("say:  ", words)
      }
    }
    return lines
  }

  /// One row for a program.
  static func object(_ row: Row) -> JSONValue {
    let names: [(String, swo_recovery_column)] = [
      ("rule", .SWO_RECOVERY_COLUMN_RULE), ("source", .SWO_RECOVERY_COLUMN_SOURCE),
      ("target", .SWO_RECOVERY_COLUMN_TARGET), ("cluster", .SWO_RECOVERY_COLUMN_CLUSTER),
      ("guest_run", .SWO_RECOVERY_COLUMN_GUEST_RUN),
      ("target_past", .SWO_RECOVERY_COLUMN_TARGET_PAST), ("action", .SWO_RECOVERY_COLUMN_ACTION),
      ("owner", .SWO_RECOVERY_COLUMN_OWNER), ("guest", .SWO_RECOVERY_COLUMN_GUEST),
      ("meaning", .SWO_RECOVERY_COLUMN_MEANING), ("to_do", .SWO_RECOVERY_COLUMN_TO_DO),
      ("words", .SWO_RECOVERY_COLUMN_WORDS),
    ]
    return .object(names.map { (name: $0, value: .string(row[$1] ?? "")) })
  }

  private static func conditions(_ row: Row) -> String {
    let dimensions: [(String, swo_recovery_column)] = [
      ("source", .SWO_RECOVERY_COLUMN_SOURCE), ("target", .SWO_RECOVERY_COLUMN_TARGET),
      ("cluster", .SWO_RECOVERY_COLUMN_CLUSTER), ("guest", .SWO_RECOVERY_COLUMN_GUEST_RUN),
      ("target's past", .SWO_RECOVERY_COLUMN_TARGET_PAST),
    ]
    let named = dimensions.compactMap { name, column -> String? in
      guard let value = row[column], value != "any" else { return nil }
      return "\(name) \(value.split(separator: "|").map(words).joined(separator: " or "))"
    }
    return named.joined(separator: ", ")
  }

  private static func conclusion(_ row: Row) -> String {
    let owner = row[.SWO_RECOVERY_COLUMN_OWNER] ?? ""
    let guest = row[.SWO_RECOVERY_COLUMN_GUEST] ?? ""
    return "\(row[.SWO_RECOVERY_COLUMN_ACTION] ?? ""); owner \(owner), guest \(guest)"
  }

  /// `mayHaveRun` as "may have run".
  private static func words(_ name: Substring) -> String {
    name.reduce(into: "") { text, character in
      text += character.isUppercase ? " \(character.lowercased())" : String(character)
    }
  }

  private static func wrapped(_ head: String, _ text: String) -> [String] {
    var lines: [String] = []
    var line = "   " + head
    var isFirst = true
    for word in text.split(separator: " ") {
      if line.count + word.count + 1 > width {
        lines.append(line)
        line = "         "
        isFirst = true
      }
      line += (isFirst ? "" : " ") + word
      isFirst = false
    }
    return lines + [line]
  }
}
