-- The accounts of the ISPmail guide, for MySQL and MariaDB. 320 characters of utf8mb4 fit an InnoDB index key.
CREATE TABLE virtual_domains (
  id   INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  name VARCHAR(255) NOT NULL,
  UNIQUE KEY name (name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE virtual_users (
  id        INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  domain_id INT NOT NULL,
  email     VARCHAR(320) NOT NULL,
  password  VARCHAR(255),
  UNIQUE KEY email (email),
  FOREIGN KEY (domain_id) REFERENCES virtual_domains (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE virtual_aliases (
  id          INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  domain_id   INT NOT NULL,
  source      VARCHAR(320) NOT NULL,
  destination VARCHAR(320) NOT NULL,
  KEY source (source),
  FOREIGN KEY (domain_id) REFERENCES virtual_domains (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
