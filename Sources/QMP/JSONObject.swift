/// The members of a JSON object, in the order in which they were written.
///
/// Lookup walks the members: QMP's objects are small, and an array is one allocation where a
/// dictionary is several. Equality ignores the order, as JSON does.
public struct JSONObject: Sendable, Equatable, ExpressibleByDictionaryLiteral, Sequence {
  public typealias Member = (name: String, value: JSONValue)

  private var members: [Member]

  /// An object without members.
  public init() { members = [] }

  /// The members as written; of two with one name the last counts.
  public init(dictionaryLiteral elements: (String, JSONValue)...) { self.init(elements) }

  /// The members in order; of two with one name the last counts.
  init(_ elements: [(String, JSONValue)]) {
    members = []
    members.reserveCapacity(elements.count)
    for (name, value) in elements { self[name] = value }
  }

  /// Members whose names are known to differ, taken over without a search.
  init(distinct members: [Member]) { self.members = members }

  /// How many members there are.
  public var count: Int { members.count }

  /// The value of the member called `name`; setting nil removes it, a new name goes last.
  public subscript(_ name: String) -> JSONValue? {
    get { members.first { $0.name == name }?.value }
    set {
      let index = members.firstIndex { $0.name == name }
      switch (index, newValue) {
      case (let index?, let value?): members[index].value = value
      case (let index?, nil): members.remove(at: index)
      case (nil, let value?): members.append((name, value))
      case (nil, nil): break
      }
    }
  }

  public func makeIterator() -> IndexingIterator<[Member]> { members.makeIterator() }

  public static func == (left: Self, right: Self) -> Bool {
    guard left.count == right.count else { return false }
    if left.members.elementsEqual(right.members, by: { $0 == $1 }) { return true }
    let values = Dictionary(right.members.map { ($0.name, $0.value) }) { _, last in last }
    return left.members.allSatisfy { values[$0.name] == $0.value }
  }
}
