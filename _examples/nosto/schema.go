package main

// schema is what can be asked of the demo, and what it costs: search as the page
// says, and recommendations as over HTTP, at the most products and segments.
const schema = `
directive @cost(weight: String!) on FIELD_DEFINITION | OBJECT
directive @listSize(assumedSize: Int, slicingArguments: [String!], sizedFields: [String!]) on FIELD_DEFINITION
directive @section(name: String!) on FIELD_DEFINITION

type Query {
  search(query: String!): Hits @cost(weight: "600")
  category(name: String!): Hits @cost(weight: "600")
  autocomplete(query: String!): Hits @cost(weight: "600")
  vectorSearch(query: String!): Hits @cost(weight: "1500")
  session: Session @cost(weight: "10")
  node(id: String!): Node
}

type Hits {
  total: Int!
  products: [Product!]! @cost(weight: "0")
}

type Session {
  "The active custom segments."
  segments(first: Int! = 2): [Segment!]! @cost(weight: "2") @section(name: "segments")
  normal(limit: Int! = 20): Recommendation @cost(weight: "50") @section(name: "normal")
    @listSize(slicingArguments: ["limit"], sizedFields: ["products"])
  personalized(limit: Int! = 20): Recommendation @cost(weight: "100") @section(name: "personalized")
    @listSize(slicingArguments: ["limit"], sizedFields: ["products"])
}

type Recommendation {
  products: [Product!]! @section(name: "products")
}

union Node = Product | Segment

type Product @cost(weight: "1") {
  id: ID!
  name: String!
  category: String!
  price: Float!
}

type Segment {
  id: ID!
  name: String!
}
`
